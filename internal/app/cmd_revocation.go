package app

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"inkan/internal/pki"
	"inkan/internal/ra"
	"inkan/internal/store"
)

// revocationJSON is a case of revocation on the command line's JSON output.
type revocationJSON struct {
	Number      string `json:"number"`
	ContentHash string `json:"contentHash"` // of the case as it stands
	State       string `json:"state"`
	Held        bool   `json:"held"`
	Proof       string `json:"proof"`
	AskedBy     string `json:"askedBy"`
	Reason      string `json:"reason"`
	Serial      string `json:"serial"`
	Certificate string `json:"certificateState"`
	RequestID   string `json:"requestId,omitempty"`
	HolderCode  string `json:"holderCode,omitempty"`
	Terminal    string `json:"terminalName,omitempty"`
	Email       string `json:"email,omitempty"`
	From        string `json:"revokedFrom,omitempty"` // of a case that was dated forward
	Invalid     string `json:"invalidSince,omitempty"`
	ReceivedAt  string `json:"receivedAt"`
	HeldAt      string `json:"heldAt,omitempty"`
	Final       string `json:"finalAt,omitempty"` // where nobody decides
	ProposedBy  string `json:"proposedBy,omitempty"`
	ProposedAt  string `json:"proposedAt,omitempty"`
	DecidedBy   string `json:"decidedBy,omitempty"`
	DecidedAt   string `json:"decidedAt,omitempty"`
	PublishedAt string `json:"publishedAt,omitempty"`
}

// decidedJSON is a case after a decision, and what is seen of the CRL.
type decidedJSON struct {
	revocationJSON
	listedJSON
}

func revocationToJSON(d ra.RevocationDetail) revocationJSON {
	v, c := d.Revocation, d.Certificate
	return revocationJSON{Number: v.ID, ContentHash: v.Hash(), State: string(v.State), Held: v.Held(), Proof: string(v.Proof), AskedBy: v.AskedBy, Reason: v.Reason.String(),
		Serial: v.Serial, Certificate: string(c.State(now())), RequestID: v.RequestID, HolderCode: c.Holder.Code, Terminal: c.Terminal, Email: v.Email,
		From: stamp(v.Dates.Effective), Invalid: stamp(v.Dates.InvalidSince), ReceivedAt: stamp(v.ReceivedAt), HeldAt: stamp(v.HeldAt), Final: stamp(v.FinalAt()),
		ProposedBy: v.ProposedBy, ProposedAt: stamp(v.ProposedAt), DecidedBy: v.DecidedBy, DecidedAt: stamp(v.DecidedAt), PublishedAt: stamp(v.PublishedAt)}
}

func (c *cli) revocationCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "revocation", Short: "cases of revocation (失効申請)"}
	cmd.AddCommand(c.listRevocationsCommand(), c.showRevocationCommand(),
		c.decideRevocationCommand("approve", "revoke for good what was asked for (失効の承認)", (*ra.Service).ApproveRevocation),
		c.decideRevocationCommand("reject", "end a case without a revocation, the word of two (失効の却下)", (*ra.Service).RejectRevocation),
		c.decideRevocationCommand("lift", "end a case and its hold, or what counts from a day to come, the word of two (停止の解除)", (*ra.Service).LiftRevocation))
	return cmd
}

func (c *cli) listRevocationsCommand() *cobra.Command {
	var state string
	f := store.RevocationFilter{}
	cmd := &cobra.Command{Use: "list", Short: "list cases; without --state those that wait", RunE: func(cmd *cobra.Command, _ []string) error {
		f.State = pki.RevocationState(state)
		if state == "all" {
			f.State = ""
		} else if !slices.Contains(pki.RevocationStates(), f.State) {
			return &usageError{trimRoot(cmd), fmt.Errorf("--state %q: all or one of %s", state, strings.Trim(fmt.Sprint(pki.RevocationStates()), "[]"))}
		}
		return c.withCerts(cmd, func(ctx context.Context, i *instance, by pki.Actor) error {
			all, err := i.ra.Revocations(ctx, by, f)
			if err != nil {
				return err
			}
			out := make([]revocationJSON, len(all))
			for n, d := range all {
				out[n] = revocationToJSON(d)
			}
			if c.json {
				return c.print(out)
			}
			err = c.table([]string{"NUMBER", "STATE", "PROOF", "REASON", "CERTIFICATE", "CODE", "TERMINAL", "RECEIVED", "FINAL AT", "PROPOSED BY"}, len(out), func(n int) []string {
				r := out[n]
				return []string{r.Number, r.State, r.Proof, r.Reason, r.Certificate, r.HolderCode, r.Terminal, r.ReceivedAt, r.Final, r.ProposedBy}
			})
			if err == nil && len(out) == f.Limit {
				c.more(out[len(out)-1].Number)
			}
			return err
		})
	}}
	c.readerFlags(cmd)
	cmd.Flags().StringVar(&state, "state", string(pki.RevocationReceived), "only this state, or all")
	cmd.Flags().StringVar(&f.After, "after", "", "only cases after this number (next page)")
	limitFlag(cmd, &f.Limit)
	return cmd
}

func (c *cli) showRevocationCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "show NUMBER", Short: "show a case", Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		return c.withCerts(cmd, func(ctx context.Context, i *instance, by pki.Actor) error {
			d, err := i.ra.Revocation(ctx, by, args[0])
			if err != nil {
				return err
			}
			return c.print(revocationToJSON(d))
		})
	}}
	c.readerFlags(cmd)
	return cmd
}

// decideRevocationCommand is one officer's decision about a case that he was shown. It needs
// no signer: it records, and then says what is seen of the CRL where the decision changed the status
// of the certificate.
func (c *cli) decideRevocationCommand(name, short string, do func(s *ra.Service, ctx context.Context, by pki.Actor, id, content, why string) (ra.RevocationDetail, error)) *cobra.Command {
	var d decision
	var why string
	cmd := &cobra.Command{Use: name + " NUMBER", Short: short, Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		return c.with(cmd, false, func(ctx context.Context, i *instance) error {
			content, err := c.shown(ctx, i, cmd, args[0], d, func(by pki.Actor) ([]fact, string, error) {
				seen, err := i.ra.Revocation(ctx, by, args[0])
				return revocationFacts(seen.Revocation, seen.Certificate), seen.Revocation.Hash(), err
			})
			if err != nil {
				return err
			}
			by, err := c.actor(ctx, i, cmd, strings.TrimSpace(args[0]+" "+content+" "+why))
			if err != nil {
				return err
			}
			done, err := do(i.ra, ctx, by, args[0], content, why)
			if err != nil {
				return err
			}
			v := done.Revocation
			switch {
			case c.json:
			case v.State == pki.RevocationReceived:
				c.say("%s  proposed; a second officer decides it with: %s", v.ID, c.commandLine("revocation "+name+" --as OPERATOR "+v.ID))
			default:
				c.say("%s  %s  %s", v.ID, v.State, v.Serial)
			}
			l := listed{}
			if v.State == pki.RevocationDone || v.State == pki.RevocationLifted {
				l = c.lists(ctx, i, done.Certificate.Issuer, v.DecidedAt)
			}
			if c.json {
				return c.print(decidedJSON{revocationToJSON(done), l.json()})
			}
			c.tell(l)
			return nil
		})
	}}
	c.actorFlags(cmd)
	d.flags(cmd)
	cmd.Flags().StringVar(&why, "why", "", "in words, for the record")
	cmd.Flags().BoolVar(&c.json, "json", false, "print JSON")
	return cmd
}
