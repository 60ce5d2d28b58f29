package lint

// RuleNames gives the names of all rules, so that a test can demand a case for each.
func RuleNames() []string {
	var out []string
	for _, r := range rules {
		out = append(out, r.name)
	}
	for _, r := range crlRules {
		out = append(out, r.name)
	}
	return out
}
