package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"inkan/internal/pki"
)

// decision is how a command gets to know what a person decides: from the person, who is
// shown it and asked, or from --content, the contentHash of show --json.
type decision struct {
	content string // contentHash that was shown to the person
	yes     bool   // in a demo: stands for having looked
}

// fact is one line of what is decided.
type fact struct{ name, value string }

func (d *decision) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&d.content, "content", "", "contentHash of show --json: decides exactly that, and asks nothing; needed where nobody can be asked")
	cmd.Flags().BoolVar(&d.yes, "yes", false, "in a demo only: decide without being asked")
}

// shown gives the hash of what is decided, and shows it where --content is not given. look
// reads the object, and gives its facts and its hash. Errors: decision.declined; a usage
// error where nobody can be asked.
func (c *cli) shown(ctx context.Context, i *instance, cmd *cobra.Command, id string, d decision, look func(by pki.Actor) ([]fact, string, error)) (string, error) {
	stdin, asks := c.terminal()
	switch {
	case d.content != "":
		return d.content, nil
	case d.yes && !i.ops.Asserted:
		return "", &usageError{trimRoot(cmd), errors.New("--yes works in a demo only; give --content, the contentHash of show --json")}
	case !d.yes && !asks:
		return "", &usageError{trimRoot(cmd), errors.New("nobody can be asked here: --content is needed, the contentHash of show --json")}
	}
	by, err := c.prove(ctx, i, strings.Fields(trimRoot(cmd))[0]+" show", id)
	if err != nil {
		return "", err
	}
	facts, hash, err := look(by)
	if err != nil {
		return "", err
	}
	width := 0
	for _, f := range facts {
		width = max(width, len(f.name))
	}
	for _, f := range facts {
		if f.value != "" {
			_, _ = fmt.Fprintf(inert{c.stderr}, "  %-*s  %s\n", width, f.name, f.value)
		}
	}
	if d.yes {
		return hash, nil
	}
	_, _ = fmt.Fprintf(c.stderr, "%s: type yes to do so: ", trimRoot(cmd))
	answer, err := readLine(stdin)
	if err != nil {
		return "", fmt.Errorf("read answer: %w", err)
	}
	if answer != "yes" {
		return "", pki.E(pki.Invalid, "decision.declined")
	}
	return hash, nil
}

// terminal gives standard input where a person can be asked: it and standard output are
// terminals.
func (c *cli) terminal() (*os.File, bool) {
	in, isIn := c.stdin.(*os.File)
	out, isOut := c.stdout.(*os.File)
	return in, isIn && isOut && term.IsTerminal(int(in.Fd())) && term.IsTerminal(int(out.Fd()))
}

// maxAnswer bounds a typed answer.
const maxAnswer = 1 << 10

// readLine reads one line and nothing after it.
func readLine(r io.Reader) (string, error) {
	var line []byte
	b := make([]byte, 1)
	for len(line) < maxAnswer {
		n, err := r.Read(b)
		if n == 1 && b[0] == '\n' || errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return "", err
		}
		line = append(line, b[:n]...)
	}
	return strings.TrimSpace(string(line)), nil
}

// requestFacts are what an approver looks at.
func requestFacts(r pki.Request) []fact {
	a := r.Application
	key := "made by the CA, " + string(r.KeyType)
	if !r.NeedsKey() {
		key = "request of the terminal (CSR), SHA-256 " + pki.ContentBytes(a.CSR)
	}
	return []fact{
		{"request", fmt.Sprintf("%s  %s, %s, from %s", r.ID, r.State, r.Kind, r.Source)},
		{"institution", fmt.Sprintf("%s %s", a.Holder.Kind, a.Holder.Code)},
		{"terminal", a.TerminalName},
		{"mail", a.Email},
		{"second mail", a.MaintenanceEmail},
		{"department", a.Department},
		{"telephone", a.Phone},
		{"payment", map[int]string{1: "deducted from payments", 2: "by invoice"}[a.PaymentMethod]},
		{"key", key},
		{"looks like", r.Alike},
		{"received", stamp(r.ReceivedAt)},
		{"entered by", r.EnteredBy},
		{"checked by", r.CheckedBy},
		{"content", r.ContentHash},
	}
}

// revocationFacts are what an officer looks at.
func revocationFacts(v pki.Revocation, c pki.Certificate) []fact {
	return []fact{
		{"case", fmt.Sprintf("%s  %s", v.ID, v.State)},
		{"certificate", fmt.Sprintf("%s  %s", v.Serial, c.State(now()))},
		{"institution", fmt.Sprintf("%s %s", c.Holder.Kind, c.Holder.Code)},
		{"terminal", c.Terminal},
		{"request", v.RequestID},
		{"reason", v.Reason.String()},
		{"proof", string(v.Proof)},
		{"asked by", v.AskedBy},
		{"mail", v.Email},
		{"received", stamp(v.ReceivedAt)},
		{"on hold since", stamp(v.HeldAt)},
		{"revoked from", stamp(v.Dates.Effective)},
		{"invalid since", stamp(v.Dates.InvalidSince)},
		{"final at", stamp(v.FinalAt())},
		{"proposed by", v.ProposedBy},
		{"content", v.Hash()},
	}
}

// grantFacts are what the second person looks at.
func grantFacts(g pki.Grant) []fact {
	return []fact{
		{"grant", g.ID + "  " + string(g.State(now()))},
		{"client", g.ClientID},
		{"kinds", orEvery(texts(g.Kinds))},
		{"prefectures", orEvery(g.Prefectures)},
		{"per day", fmt.Sprint(g.PerDay)},
		{"in all", fmt.Sprint(g.Total)},
		{"ends", stamp(g.EndsAt)},
		{"made by", g.MadeBy},
		{"approved by", g.ApprovedBy},
		{"content", g.Hash()},
	}
}

func texts[T ~string](all []T) []string {
	out := make([]string, len(all))
	for n, v := range all {
		out[n] = string(v)
	}
	return out
}

func orEvery(all []string) string {
	if len(all) == 0 {
		return "every"
	}
	return strings.Join(all, " ")
}
