package signer_test

import (
	"context"
	"fmt"
	"sync"

	"golang.org/x/mod/sumdb/tlog"

	"inkan/internal/keystore"
	"inkan/internal/pki"
)

// forest has an audit tree for each name; one of another name is another history.
var forest struct {
	sync.Mutex
	hashes map[string][]tlog.Hash
	sizes  map[string]int64
}

// hashesOf gives the stored hashes of a tree of at least a size.
func hashesOf(name string, size int64) tlog.HashReaderFunc {
	forest.Lock()
	defer forest.Unlock()
	if forest.hashes == nil {
		forest.hashes, forest.sizes = map[string][]tlog.Hash{}, map[string]int64{}
	}
	reader := func(indexes []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(indexes))
		for i, index := range indexes {
			out[i] = forest.hashes[name][index]
		}
		return out, nil
	}
	for n := forest.sizes[name]; n < size; n++ {
		more, err := tlog.StoredHashes(n, fmt.Appendf(nil, "%s %d", name, n), tlog.HashReaderFunc(reader))
		if err != nil {
			panic(err)
		}
		forest.hashes[name] = append(forest.hashes[name], more...)
		forest.sizes[name] = n + 1
	}
	return func(indexes []int64) ([]tlog.Hash, error) {
		forest.Lock()
		defer forest.Unlock()
		return reader(indexes)
	}
}

// treeOf gives the head of a tree.
func treeOf(name string, number, size int64) pki.Checkpoint {
	root, err := tlog.TreeHash(size, hashesOf(name, size))
	if err != nil {
		panic(err)
	}
	return pki.Checkpoint{Number: number, Size: size, Root: root}
}

// proofOf gives the consistency proof between two sizes of a tree.
func proofOf(name string, older, size int64) tlog.TreeProof {
	if older < 1 || older > size {
		return nil
	}
	proof, err := tlog.ProveTree(size, older, hashesOf(name, size))
	if err != nil {
		panic(err)
	}
	return proof
}

// grow has a signer sign the tree at a size, as the edge does.
func grow(s keystore.Service, size int64) error {
	info, err := s.Info(context.Background())
	if err != nil {
		return err
	}
	last := info.Tree
	_, err = s.SignCheckpoint(context.Background(), last.Number, treeOf("tree", last.Number+1, size), proofOf("tree", last.Size, size))
	return err
}
