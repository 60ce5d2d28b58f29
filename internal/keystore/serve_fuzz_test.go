package keystore

import (
	"bytes"
	"context"
	"io"
	"net"
	"testing"

	"inkan/internal/testkit"
)

// nobody is a signer with a defect in every call.
type nobody struct{ Service }

// FuzzServeConn: whatever bytes arrive at the signer's socket, every frame that came whole
// is answered with a whole frame of a reason, and the connection ends with the bytes.
func FuzzServeConn(f *testing.F) {
	for v := range byte(16) {
		m := newCall(verb(v))
		if m == nil {
			m = &emptyMessage{}
		}
		body, _, err := encode(m)
		if err != nil {
			f.Fatal(err)
		}
		var frame bytes.Buffer
		err = writeFrame(&frame, v, body, nil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(frame.Bytes())
		f.Add(bytes.Repeat(frame.Bytes(), 3))
	}
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 2}) // the largest CRL there could be, and nothing of it
	f.Fuzz(func(t *testing.T, sent []byte) {
		if len(sent) > 64<<10 {
			return
		}
		var answers bytes.Buffer
		err := ServeConn(context.Background(), wire{Reader: bytes.NewReader(sent), Writer: &answers}, nobody{}, make(chan struct{}, 2), testkit.Quiet)
		whole := wholeFrames(sent)
		for answers.Len() > 0 {
			kind, size, err := readHeader(&answers)
			if err != nil {
				t.Fatal(err)
			}
			body, err := readBody(&answers, size, frameLimit)
			if err != nil {
				t.Fatal(err)
			}
			var said failure
			err = decode(body, &said)
			if kind != statusError || err != nil || said.code != "signer.internal" && said.code != "signer.message" {
				t.Fatalf("answer %d %q, %v", kind, said.code, err)
			}
			whole--
		}
		if whole != 0 {
			t.Fatalf("%d of the frames that came whole have no answer: %v", whole, err)
		}
	})
}

// wire is a connection whose bytes are all there.
type wire struct {
	net.Conn
	io.Reader
	io.Writer
}

func (w wire) Read(p []byte) (int, error)  { return w.Reader.Read(p) }
func (w wire) Write(p []byte) (int, error) { return w.Writer.Write(p) }
func (w wire) Close() error                { return nil }

// wholeFrames counts the frames, of a size that is read, before the first that is not.
func wholeFrames(sent []byte) int {
	r := bytes.NewReader(sent)
	for n := 0; ; n++ {
		kind, size, err := readHeader(r)
		if err != nil || size > verb(kind).limit() || size > r.Len() {
			return n
		}
		_, _ = r.Seek(int64(size), io.SeekCurrent) // within what is there
	}
}
