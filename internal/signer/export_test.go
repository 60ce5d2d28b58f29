package signer

// Turn begins another segment of the journal, without waiting for a large one.
func (s *Server) Turn() {
	s.journal.rest()
	s.journal.rotateAt = 0
	s.journal.rotate()
}
