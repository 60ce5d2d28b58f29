package ca

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/big"
	"math/bits"
	"slices"
)

// serial is a serial number, right-aligned. Ours have exactly these octets.
type serial [20]byte

// serialOf gives false for a number that cannot be one of ours.
func serialOf(n *big.Int) (serial, bool) {
	var s serial
	if n.Sign() < 0 || n.BitLen() > 8*len(s) {
		return s, false
	}
	n.FillBytes(s[:])
	return s, true
}

// readSerial reads the hexadecimal form of the database.
func readSerial(text string) (serial, error) {
	var s serial
	if len(text) > 2*len(s) {
		return s, fmt.Errorf("serial of %d digits", len(text))
	}
	if len(text)%2 == 1 {
		text = "0" + text
	}
	_, err := hex.Decode(s[len(s)-len(text)/2:], []byte(text))
	return s, err
}

// serials is a set of serial numbers that only grows: certificates are never deleted.
// Most of them lie packed in buckets, 20 octets each and one after another: that is half
// of what a map takes, nothing that the collector of garbage looks into, and made in a
// tenth of the time, for which a start waits.
type serials struct {
	packed []serial
	ends   []uint32            // where each bucket ends in packed
	late   map[serial]struct{} // what came since
}

// perBucket is how many numbers a bucket has in the mean. Looking one up reads them all.
const perBucket = 8

// bucket is where a number lies: its first octets, which are random (threat CK7), as a
// fraction of all.
func bucket(number *serial, buckets int) int {
	first := binary.BigEndian.Uint64(number[:]) << 1 // ours are positive: the first bit says nothing
	at, _ := bits.Mul64(first, uint64(buckets))
	return int(at)
}

// packSerials makes the set of all numbers of some lists, each of which is there once.
func packSerials(lists ...[]serial) serials {
	count := 0
	for _, list := range lists {
		count += len(list)
	}
	buckets := count/perBucket + 1
	s := serials{packed: make([]serial, count), ends: make([]uint32, buckets+1), late: map[serial]struct{}{}}
	for _, list := range lists {
		for i := range list {
			s.ends[bucket(&list[i], buckets)+1]++
		}
	}
	for b := range buckets {
		s.ends[b+1] += s.ends[b]
	}
	// Now each says where the bucket begins, and moves to its end as the bucket is filled.
	s.ends = s.ends[:buckets]
	for _, list := range lists {
		for i := range list {
			end := &s.ends[bucket(&list[i], buckets)]
			s.packed[*end] = list[i]
			*end++
		}
	}
	return s
}

func (s *serials) has(number serial) bool {
	b := bucket(&number, len(s.ends))
	begin := uint32(0)
	if b > 0 {
		begin = s.ends[b-1]
	}
	if slices.Contains(s.packed[begin:s.ends[b]], number) {
		return true
	}
	_, late := s.late[number]
	return late
}

func (s *serials) add(number serial) {
	if !s.has(number) {
		s.late[number] = struct{}{}
	}
}

func (s *serials) count() int { return len(s.packed) + len(s.late) }

// loose says whether so many came since that packing them is worth its time.
func (s *serials) loose() bool { return len(s.late) > 1<<14+len(s.packed)/16 }

// repacked gives the same set, packed.
func (s *serials) repacked() serials {
	late := make([]serial, 0, len(s.late))
	for number := range s.late {
		late = append(late, number)
	}
	return packSerials(s.packed, late)
}
