package store_test

import (
	"context"
	"net"
	"net/url"
	"testing"
	"time"

	"inkan/internal/store"
	"inkan/internal/store/storetest"
	"inkan/internal/testkit"
)

// TestMuteHostIsPassedOver: a server whose machine hangs takes connections and says
// nothing. The next host of the DSN has its turn while a batch of writes still waits.
func TestMuteHostIsPassedOver(t *testing.T) {
	testkit.Long(t, "waits for a host that never answers")
	dsn := storetest.Migrated(t, store.PostgreSQL)
	mute, err := net.Listen("tcp", "127.0.0.1:0") // the kernel takes the connections
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = mute.Close() })
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	host, port, err := net.SplitHostPort(mute.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	query := u.Query()
	query.Set("host", host+","+query.Get("host"))
	query.Set("port", port+",5432")
	u.RawQuery = query.Encode()

	ctx, cancel := context.WithTimeout(t.Context(), store.BatchTime)
	defer cancel()
	db, err := store.Open(ctx, store.Options{DSN: u.String(), Now: time.Now})
	if err != nil {
		t.Fatalf("the second host is there: %v", err)
	}
	defer db.Close()
	err = db.Update(t.Context(), func(*store.Tx) error { return nil })
	if err != nil {
		t.Error(err)
	}
}
