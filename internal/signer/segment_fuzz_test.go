package signer

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"
)

// FuzzSegment reads what is no segment of ours, as it is, and with each line chained as
// if the signer had written it, so that what stands behind the chain is reached. What is
// taken is taken again, to the same memory; and a head of that memory says the same.
func FuzzSegment(f *testing.F) {
	f.Add([]byte(oneFile))
	f.Add([]byte("\n"))
	f.Add([]byte(`{"at":1,"kind":"head","segment":2,"before":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=","size":3,"root":"aa","crls":{"g1":{"number":4,"tbs":"bb"}},"pasts":1}
{"at":1,"kind":"past","past":"` + string(bytes.Repeat([]byte("ABCD"), 2*packedSize/3)) + `"}
{"at":2,"kind":"destroy","epochs":["2026-11","2026-11"]}
{"at":2,"kind":"sign","serial":"01","index":-1}
`))
	for _, pasts := range []string{"-1", "200000000000000"} {
		f.Add([]byte(`{"at":1,"kind":"head","segment":2,"before":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=","pasts":` + pasts + "}\n"))
	}
	b, dir := newLogbook(f)
	for n := range int64(2) {
		b.note(f, some(n)...)
		b.turn()
		b.note(f, some(n+5)...)
	}
	check(f, b.close())
	for _, name := range []string{closedName(1), journalName} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		check(f, err)
		f.Add(data)
	}

	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 4*maxLine {
			return
		}
		for _, text := range [][]byte{data, chained(data)} {
			s, m, err := readMemory(text)
			if err != nil {
				continue
			}
			if s.size > int64(len(text)) || s.head > s.size || s.number < 1 || (s.number > 1) != (s.head > 0) {
				t.Fatalf("%+v of %d octets", s, len(text))
			}
			again, same, err := readMemory(text[:s.size])
			if err != nil || again.size != s.size || !bytes.Equal(again.chain.value, s.chain.value) {
				t.Fatalf("its whole lines alone: %+v, %v", again, err)
			}
			remembers(t, same, m)
			remade := newMemory()
			for _, r := range m.summary(time.Unix(1, 0)) {
				remade.apply(r)
			}
			if !reflect.DeepEqual(remade.crls, m.crls) || !remade.tree.Same(m.tree) || len(remade.losses) != len(m.losses) || !slices.Equal(remade.destroyed, m.destroyed) ||
				!maps.Equal(remade.recent.bySerial, m.recent.bySerial) {
				t.Fatalf("a head of %+v makes %+v", m, remade)
			}
		}
	})
}

func readMemory(text []byte) (*segment, *memory, error) {
	m := newMemory()
	s, err := readSegment(bytes.NewReader(text), journalName, []byte("key"), m.apply)
	return s, m, err
}

// chained gives each line, without the chain that it may have, the chain of our key.
func chained(data []byte) []byte {
	var out bytes.Buffer
	s := &segment{number: 1, chain: newChain([]byte("key"), nil)}
	for n, line := range bytes.Split(bytes.TrimSuffix(data, []byte("\n")), []byte("\n")) {
		open, _, _ := bytes.Cut(line, []byte(suffixOpen))
		open = bytes.TrimSuffix(open, []byte("}"))
		if n == 0 {
			s.begin(append(bytes.Clone(open), '}'))
		}
		s.chain.link(open)
		out.Write(open)
		out.Write(s.chain.suffix())
	}
	return out.Bytes()
}
