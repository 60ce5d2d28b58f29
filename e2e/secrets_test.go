package e2e

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"inkan/internal/testkit"
)

// needle finds a secret as a word of its own: four digits inside a longer number
// are not the PIN.
func (s secret) needle() *regexp.Regexp {
	return regexp.MustCompile(`(^|[^0-9A-Za-z.])` + regexp.QuoteMeta(s.value) + `($|[^0-9A-Za-z])`)
}

// nothingOnCommandLines: what a process was started with can be read by everybody
// on the machine.
func nothingOnCommandLines(t *testing.T, w *world) {
	group := w.cmd.Process.Pid
	processes := 0
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		stat, err := os.ReadFile(filepath.Join("/proc", e.Name(), "stat"))
		if err != nil {
			continue // not a process, or gone
		}
		_, after, _ := bytes.Cut(stat, []byte(") ")) // the name may hold anything
		fields := strings.Fields(string(after))
		if len(fields) < 3 || fields[2] != fmt.Sprint(group) {
			continue
		}
		processes++
		for _, file := range []string{"cmdline", "environ"} {
			data, err := os.ReadFile(filepath.Join("/proc", e.Name(), file))
			if err != nil {
				continue
			}
			for _, s := range w.secrets {
				if s.needle().Match(data) {
					t.Errorf("%s of process %s shows the %s", file, e.Name(), s.what)
				}
			}
		}
	}
	if processes < 2 {
		t.Errorf("the demo runs %d processes, want edge and signer", processes)
	}
}

// nothingInFiles: what the stories typed and were told is in no log, and in no file
// of the instance but those that exist to hold it.
func nothingInFiles(t *testing.T, w *world) {
	if len(w.secrets) < 5 {
		t.Fatalf("only %d secrets to look for", len(w.secrets))
	}
	samples := map[string]bool{}
	for _, s := range w.Samples {
		samples[s.ReferenceID] = true
		if s.ReferenceID != "" {
			w.secret("reference ID of the sample "+s.Purpose, s.ReferenceID)
		}
	}
	files := []string{w.stdout, w.stderr}
	err := filepath.WalkDir(w.Dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() && e.Name() != "demo.json" {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var bytesSeen int
	for _, file := range files {
		data := testkit.ReadFile(t, file)
		bytesSeen += len(data)
		for _, s := range w.secrets {
			if file == w.stdout && (samples[s.value] || strings.HasPrefix(s.what, "password of ")) {
				continue // the table that shows a person what to try
			}
			if at := s.needle().FindIndex(data); at != nil {
				t.Errorf("%s holds the %s: …%q…", file, s.what, data[max(0, at[0]-60):min(len(data), at[1]+20)])
			}
		}
		for _, word := range []string{"PRIVATE KEY-----", "AGE-SECRET-KEY-"} {
			if bytes.Contains(data, []byte(word)) && !mayHoldKey(w, file) {
				t.Errorf("%s holds a key in clear (%s)", file, word)
			}
		}
	}
	t.Logf("looked for %d secrets in %d files, %d bytes", len(w.secrets), len(files), bytesSeen)
}

// mayHoldKey names the files whose business a key in clear is: the API client's,
// which belongs to that client's machine, and the edge's own short-lived keys (TLS
// listeners, OCSP signer), which it needs to start without a person.
func mayHoldKey(w *world, file string) bool {
	return file == w.APIClient.Key || filepath.Dir(file) == filepath.Join(w.Dir, "edge")
}
