//go:build !unix

package engine

// queue does nothing where there is no flock: only fairness is lost.
type queue struct{}

func openQueue(string) (*queue, error) { return nil, nil }

func (q *queue) take()  {}
func (q *queue) pass()  {}
func (q *queue) close() {}
