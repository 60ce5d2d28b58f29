package portal

// Guess counts wrong reference IDs on a request, as that many guesses would.
func (p *Portal) Guess(request string, times int) {
	for range times {
		p.guard.count(request)
	}
}
