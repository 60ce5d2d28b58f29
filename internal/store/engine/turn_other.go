//go:build !unix

package engine

// turn does nothing where there is no flock: only fairness is lost.
type turn struct{}

func openTurn(string) (*turn, error) { return nil, nil }

func (t *turn) take()  {}
func (t *turn) pass()  {}
func (t *turn) close() {}
