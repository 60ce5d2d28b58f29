package app

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"inkan/internal/pki"
)

// grantJSON is a standing approval on the command line's JSON output.
type grantJSON struct {
	ID          string   `json:"id"`
	State       string   `json:"state"`
	ContentHash string   `json:"contentHash"`
	Client      string   `json:"client"`
	Kinds       []string `json:"kinds"`       // none: every kind
	Prefectures []string `json:"prefectures"` // none: every prefecture
	PerDay      int      `json:"perDay"`
	Total       int      `json:"total"`
	Used        int      `json:"used"`
	EndsAt      string   `json:"endsAt"`
	MadeBy      string   `json:"madeBy"`
	ApprovedBy  string   `json:"approvedBy,omitempty"`
	RevokedAt   string   `json:"revokedAt,omitempty"`
}

func grantToJSON(g pki.Grant) grantJSON {
	return grantJSON{ID: g.ID, State: string(g.State(now())), ContentHash: g.Hash(), Client: g.ClientID, Kinds: texts(g.Kinds), Prefectures: texts(g.Prefectures),
		PerDay: g.PerDay, Total: g.Total, Used: g.Used, EndsAt: stamp(g.EndsAt), MadeBy: g.MadeBy, ApprovedBy: g.ApprovedBy, RevokedAt: stamp(g.RevokedAt)}
}

func (c *cli) grantCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "grant", Short: "standing approvals for API clients (一括承認枠)"}
	cmd.AddCommand(c.makeGrantCommand(), c.listGrantsCommand(), c.showGrantCommand(), c.approveGrantCommand(),
		c.onRequest("revoke", "end a grant at once", false, func(ctx context.Context, i *instance, by pki.Actor, id string) (string, error) {
			return "revoked", i.ra.RevokeGrant(ctx, by, id)
		}))
	return cmd
}

func (c *cli) makeGrantCommand() *cobra.Command {
	var g pki.Grant
	var kinds []string
	var until string
	draft := &cobra.Command{Use: "make", Short: "draft a standing approval (一括承認枠); another person approves it"}
	draft.RunE = func(cmd *cobra.Command, _ []string) error {
		day, err := parseDay(until)
		if err != nil {
			return err
		}
		g.EndsAt = day.AddDate(0, 0, 1)
		for _, k := range kinds {
			_, ok := pki.HolderKind(k).Info()
			if !ok {
				return pki.E(pki.Invalid, "holder.kind").With("Kind", k)
			}
			g.Kinds = append(g.Kinds, pki.HolderKind(k))
		}
		return c.with(cmd, false, func(ctx context.Context, i *instance) error {
			by, err := c.actor(ctx, i, cmd, fmt.Sprint(g))
			if err != nil {
				return err
			}
			made, err := i.ra.MakeGrant(ctx, by, g)
			if err != nil {
				return err
			}
			c.say("%s  allows nothing yet; another operator approves it with: %s", made.ID, c.commandLine("grant approve --as OPERATOR "+made.ID))
			return nil
		})
	}
	c.actorFlags(draft)
	f := draft.Flags()
	f.StringVar(&g.ClientID, "client", "", "ID of the API client")
	f.StringSliceVar(&kinds, "kind", nil, "only these kinds of holders")
	f.StringSliceVar(&g.Prefectures, "prefecture", nil, "only these prefectures, in romaji")
	f.IntVar(&g.PerDay, "per-day", 0, "certificates a day")
	f.IntVar(&g.Total, "total", 0, "certificates in all")
	f.StringVar(&until, "until", "", fmt.Sprintf("last day, YYYY-MM-DD in Japan, at most %d days ahead", pki.MaxGrantDays))
	for _, name := range []string{"client", "per-day", "total", "until"} {
		_ = draft.MarkFlagRequired(name)
	}
	return draft
}

func (c *cli) listGrantsCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "list grants", RunE: func(cmd *cobra.Command, _ []string) error {
		return c.withCerts(cmd, func(ctx context.Context, i *instance, by pki.Actor) error {
			all, err := i.ra.Grants(ctx, by)
			if err != nil {
				return err
			}
			out := make([]grantJSON, len(all))
			for n, g := range all {
				out[n] = grantToJSON(g)
			}
			if c.json {
				return c.print(out)
			}
			return c.table([]string{"ID", "STATE", "CLIENT", "USED", "TOTAL", "PER DAY", "ENDS", "MADE BY", "APPROVED BY"}, len(out), func(n int) []string {
				g := out[n]
				return []string{g.ID, g.State, g.Client, fmt.Sprint(g.Used), fmt.Sprint(g.Total), fmt.Sprint(g.PerDay), g.EndsAt, g.MadeBy, g.ApprovedBy}
			})
		})
	}}
	c.readerFlags(cmd)
	return cmd
}

func (c *cli) showGrantCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "show ID", Short: "show a grant", Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		return c.withCerts(cmd, func(ctx context.Context, i *instance, by pki.Actor) error {
			g, err := i.ra.Grant(ctx, by, args[0])
			if err != nil {
				return err
			}
			return c.print(grantToJSON(g))
		})
	}}
	c.readerFlags(cmd)
	return cmd
}

func (c *cli) approveGrantCommand() *cobra.Command {
	var d decision
	cmd := &cobra.Command{Use: "approve ID", Short: "approve a draft as the second person", Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		return c.with(cmd, false, func(ctx context.Context, i *instance) error {
			content, err := c.shown(ctx, i, cmd, args[0], d, func(by pki.Actor) ([]fact, string, error) {
				g, err := i.ra.Grant(ctx, by, args[0])
				return grantFacts(g), g.Hash(), err
			})
			if err != nil {
				return err
			}
			by, err := c.actor(ctx, i, cmd, args[0]+" "+content)
			if err != nil {
				return err
			}
			err = i.ra.ApproveGrant(ctx, by, args[0], content)
			if err != nil {
				return err
			}
			c.say("%s  approved", args[0])
			return nil
		})
	}}
	c.actorFlags(cmd)
	d.flags(cmd)
	return cmd
}
