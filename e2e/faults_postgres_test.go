package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"inkan/internal/testkit"
)

// TestFaultsPostgreSQL takes the database away under load: first for a while, then for
// good, so that the instance has to go over to the standby. Nothing acknowledged is
// lost or made twice, clients are told to come again, status is answered all the time,
// and nobody touches the instance.
func TestFaultsPostgreSQL(t *testing.T) {
	testkit.Long(t, "starts the whole program and two databases")
	bin, err := buildOnce()
	testkit.Must(t, err)
	first, standby := newPostgres(t, "first"), newPostgres(t, "standby")
	first.initialise(t)
	first.start(t)
	first.feeds(t, standby)

	query := url.Values{"host": {first.dir + "," + standby.dir}, "user": {first.user}, "sslmode": {"disable"}, "target_session_attrs": {"read-write"}}
	f := &faulty{Live: NewLive(t, bin, LiveOptions{CAKey: "p-256", DSN: "postgres:///postgres?" + query.Encode()})}
	f.Serve(t)
	f.client = testkit.HTTP(t, f.clientTLS(t), false)
	f.issues(t)
	f.awaitStatus(t)
	c := f.crowd(t)

	t.Run("away and back", func(t *testing.T) {
		c.works(t)
		first.kill(t)
		f.refuses(t, "store.busy")
		f.tells(t, "status")
		c.isRefused(t)
		first.start(t)
		f.heals(t)
		c.works(t)
	})
	t.Run("over to the standby", func(t *testing.T) {
		first.awaitsStandby(t)
		c.works(t)
		first.kill(t)
		f.refuses(t, "store.busy")
		c.isRefused(t)
		standby.run(t, "pg_ctl", "promote", "-D", standby.data())
		f.heals(t)
		c.works(t)
	})
	c.stop()
	f.Stop(t)
	f.run(t, "audit", "verify")
	c.isKept(t, standby)
}

// crowd is clients that order certificates, and one that asks for status, whatever
// happens to the database.
type crowd struct {
	f       *faulty
	stop    func()
	refused atomic.Int64 // orders
	status  atomic.Int64 // answers

	mu     sync.Mutex
	served map[string]string // serial by idempotency key
}

func (f *faulty) crowd(t *testing.T) *crowd {
	c := &crowd{f: f, served: map[string]string{}}
	over := make(chan struct{})
	var running sync.WaitGroup
	until := func(do func(n int)) {
		running.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-over:
					return
				default:
					do(n)
				}
			}
		})
	}
	for who := range 4 {
		until(func(n int) { c.order(t, fmt.Sprintf("crowd-%d-%d", who, n)) })
	}
	until(func(int) {
		if said := f.ocsp(t); said != good {
			t.Errorf("OCSP says %d", said)
		}
		c.status.Add(1)
		time.Sleep(5 * time.Millisecond)
	})
	c.stop = sync.OnceFunc(func() {
		close(over)
		running.Wait()
	})
	t.Cleanup(c.stop)
	return c
}

// order repeats an order until it is served, or until something else is said than to
// come again.
func (c *crowd) order(t *testing.T, key string) {
	what := order(t, key)
	for began := time.Now(); time.Since(began) < testkit.Patience; time.Sleep(10 * time.Millisecond) {
		resp, err := c.f.client.Post(fmt.Sprintf("https://127.0.0.1:%d/api/v1/certificates", c.f.PortBase+446), "application/json", bytes.NewReader(what))
		if err != nil {
			t.Errorf("order %s: %v", key, err)
			return
		}
		text, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		var answer struct{ Serial, Code string }
		if err == nil {
			err = json.Unmarshal(text, &answer)
		}
		switch {
		case err != nil:
			t.Errorf("order %s: %v", key, err)
			return
		case resp.StatusCode == http.StatusCreated:
			c.mu.Lock()
			c.served[key] = answer.Serial
			c.mu.Unlock()
			return
		case resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "",
			answer.Code != "store.busy" && answer.Code != "store.commit_unknown":
			t.Errorf("order %s: %s %s, Retry-After %q", key, resp.Status, text, resp.Header.Get("Retry-After"))
			return
		}
		c.refused.Add(1)
	}
	t.Errorf("order %s was never served", key)
}

// works waits until more orders are served.
func (c *crowd) works(t *testing.T) {
	t.Helper()
	count := func() int {
		c.mu.Lock()
		defer c.mu.Unlock()
		return len(c.served)
	}
	want := count() + 100
	testkit.Await(t, "orders under load", func() bool { return count() >= want })
}

// isRefused waits until more orders are refused and more questions answered.
func (c *crowd) isRefused(t *testing.T) {
	t.Helper()
	refused, answered := c.refused.Load(), c.status.Load()
	testkit.Await(t, "refusals, and status all the same", func() bool {
		return c.refused.Load() > refused+20 && c.status.Load() > answered+20
	})
}

// isKept compares what clients were told with what the database has in the end.
func (c *crowd) isKept(t *testing.T, db *postgres) {
	t.Helper()
	kept, serials := map[string][]string{}, map[string]bool{}
	for line := range strings.Lines(db.sql(t, `SELECT r.idempotency, c.serial FROM request r JOIN certificate c ON c.request = r.id WHERE r.idempotency <> ''`)) {
		key, serial, _ := strings.Cut(strings.TrimSpace(line), "|")
		kept[key] = append(kept[key], serial)
		serials[serial] = true
	}
	for _, got := range c.f.kept {
		if !serials[got.Serial] {
			t.Errorf("certificate %s was acknowledged and is lost", got.Serial)
		}
	}
	for key, serial := range c.served {
		if len(kept[key]) != 1 || kept[key][0] != serial {
			t.Errorf("order %s was answered with certificate %s; the database has %v", key, serial, kept[key])
		}
	}
	if served := len(c.served) + len(c.f.kept); len(kept) != served || len(serials) != served {
		t.Errorf("%d orders were served; the database has %d orders, %d certificates", served, len(kept), len(serials))
	}
	t.Logf("%d orders served, %d refusals, %d status answers", len(c.served), c.refused.Load(), c.status.Load())
}
