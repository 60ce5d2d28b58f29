package portal

import (
	"bytes"
	"fmt"
	"net/http"
	"path"
	"slices"
	"time"

	"inkan/internal/pki"
	"inkan/internal/release"
)

type clientData struct {
	Offer *release.Offer // nil: there is nothing to give out
	Files []clientFile
}

type clientFile struct {
	Name   string
	Size   int64
	MB     string
	SHA256 string
}

// getClient is the page of the program for terminals (クライアントソフト配布サイト).
func (p *Portal) getClient(w http.ResponseWriter, r *http.Request) error {
	offer, ok := p.Releases()
	data := clientData{}
	if ok {
		data.Offer = &offer
	}
	for _, f := range offer.Files {
		data.Files = append(data.Files, clientFile{f.Name, f.Size, fmt.Sprintf("%.1f", max(float64(f.Size)/(1<<20), 0.1)), fmt.Sprintf("%x", f.SHA256)})
	}
	return p.show(w, r, "client", "client.title", "S-1", data)
}

var clientTypes = map[string]string{
	".msi": "application/x-msi", ".exe": "application/vnd.microsoft.portable-executable", ".gz": "application/gzip",
	".zip": "application/zip", ".deb": "application/vnd.debian.binary-package", ".rpm": "application/x-rpm",
}

// getClientFile gives out a file of the release, or the note that vouches for all of
// them. Nothing else in the directory has a name here.
func (p *Portal) getClientFile(w http.ResponseWriter, r *http.Request) error {
	offer, _ := p.Releases()
	name := r.PathValue("file")
	if name == pki.ReleaseNote && len(offer.Note) > 0 {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write(offer.Note)
		return nil
	}
	n := slices.IndexFunc(offer.Files, func(f release.File) bool { return f.Name == name })
	if n < 0 {
		return pki.ErrNotFound
	}
	f := offer.Files[n]
	contentType, known := clientTypes[path.Ext(name)]
	if !known {
		contentType = "application/octet-stream"
	}
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Content-Disposition", `attachment; filename="`+name+`"`)
	h.Set("Cache-Control", "no-cache") // a part that was loaded may be kept and gone on with
	h.Set("ETag", fmt.Sprintf(`"%x"`, f.SHA256))
	http.ServeContent(&patient{w, http.NewResponseController(w), p.Now}, r, name, time.Time{}, bytes.NewReader(f.Body))
	return nil
}

// stall is how long a terminal may take for one piece of a large file.
const stall = 30 * time.Second

// patient puts the deadline of the answer off with each piece: a slow line needs more
// time for a whole installer than a listener gives to a page.
type patient struct {
	http.ResponseWriter
	control *http.ResponseController
	now     func() time.Time
}

func (p *patient) Write(piece []byte) (int, error) {
	_ = p.control.SetWriteDeadline(p.now().Add(stall)) // not every connection has one
	return p.ResponseWriter.Write(piece)
}
