package ra_test

import (
	"bytes"
	"strings"
	"testing"

	"inkan/internal/ca/catest"
	"inkan/internal/pki"
	"inkan/internal/store"
)

type office struct{ *catest.Office }

// TestThreatLE4: who reads the reference ID, until when, and what is left of it then.
func TestThreatLE4(t *testing.T) {
	for _, engine := range engines {
		t.Run(engine, func(t *testing.T) {
			o := office{catest.New(t, catest.Options{Engine: engine})}
			r := o.Issued(catest.Application(1))
			for _, by := range []pki.Actor{catest.Approver, catest.Intake, catest.Officer} {
				d, err := o.RA.Show(t.Context(), by, r.ID)
				if d.ReferenceID != "" || err != nil && pki.ClassOf(err) != pki.Forbidden {
					t.Errorf("%s reads the reference ID, %v", by.ID, err)
				}
			}
			d, err := o.RA.Show(t.Context(), catest.Letters, r.ID)
			catest.Must(t, err)
			if d.ReferenceID == "" || !strings.Contains(strings.Join(o.Kinds(r.ID), " "), "reference.read") {
				t.Error("letters does not read it, or leaves no record")
			}
			sealed := o.sealed(r.ID)
			if len(sealed) == 0 {
				t.Fatal("nothing sealed before dispatch: the test is blind")
			}
			opened, err := o.Signer.OpenReference(t.Context(), r.ID, sealed)
			if err != nil || opened != d.ReferenceID {
				t.Fatalf("the blob does not open before dispatch, %v: the test is blind", err)
			}

			o.Dispatch(r.ID)
			d, err = o.RA.Show(t.Context(), catest.Letters, r.ID)
			catest.Must(t, err)
			if d.ReferenceID != "" || o.Count("reference WHERE request = $1 AND sealed IS NOT NULL", r.ID) != 0 {
				t.Error("after dispatch it can still be read")
			}
			if engine == store.SQLite { // PostgreSQL keeps dead rows until it vacuums: epoch keys end them (CK10)
				o.goneFromDisk(sealed)
			}
		})
	}
}

// TestThreatCK11: the sealed keys of cancelled requests are in no file of the database.
func TestThreatCK11(t *testing.T) {
	o := office{catest.New(t, catest.Options{})}
	var cancelled []string
	var blobs [][]byte
	for n := range 8 {
		r := o.Issued(catest.Application(n + 1))
		if n%2 == 0 {
			cancelled, blobs = append(cancelled, r.ID), append(blobs, o.KeyOf(r.ID).Blob)
		}
	}
	catest.Must(t, o.DB.Shred(t.Context())) // they are in the file, not only in the log
	for _, id := range cancelled {
		_, err := o.RA.Cancel(t.Context(), catest.Intake, id, "twice")
		catest.Must(t, err)
	}
	o.goneFromDisk(blobs...)
}

// goneFromDisk looks for bytes that were in the database once.
func (o office) goneFromDisk(blobs ...[]byte) {
	o.T.Helper()
	traces := func() int {
		found, files := 0, o.files()
		for _, blob := range blobs { // a long value lies in several pages: its end is looked for
			found += bytes.Count(files, blob[len(blob)-24:])
		}
		return found
	}
	if traces() == 0 {
		o.T.Fatal("not even in the write-ahead log: the test is blind")
	}
	catest.Must(o.T, o.DB.Shred(o.T.Context()))
	if n := traces(); n != 0 {
		o.T.Errorf("%d traces on the disk", n)
	}
}

// sealed gives the sealed reference ID.
func (o office) sealed(request string) []byte {
	o.T.Helper()
	var r store.Reference
	o.View(func(tx *store.Tx) error {
		var err error
		r, err = tx.Reference(request)
		return err
	})
	return r.Sealed
}
