package app

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"inkan/internal/pki"
	"inkan/internal/store"
)

// revokedJSON is a certificate that was revoked, on the command line's JSON output.
type revokedJSON struct {
	certJSON
	listedJSON
}

// revokeCommand needs no signer: it records, and then says what is seen of the CRL.
func (c *cli) revokeCommand() *cobra.Command {
	var reasonName, why, effective, since string
	cmd := &cobra.Command{Use: "revoke SERIAL", Short: "revoke a certificate (失効)", Args: cobra.ExactArgs(1)}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		reason, err := pki.ParseReason(reasonName)
		if err != nil {
			return err
		}
		dates, err := parseDates(effective, since)
		if err != nil {
			return err
		}
		return c.with(cmd, false, func(ctx context.Context, i *instance) error {
			by, err := c.actor(ctx, i, cmd, strings.TrimSpace(strings.Join([]string{args[0], reasonName, effective, since}, " ")))
			if err != nil {
				return err
			}
			if dates != (pki.RevocationDates{}) {
				return c.revokeDated(ctx, i, by, args[0], reason, dates, why)
			}
			cert, err := i.ra.Revoke(ctx, by, args[0], reason, why)
			if err != nil {
				return err
			}
			if reason == pki.CertificateHold {
				return c.tellHold(ctx, i, by, cert)
			}
			if !c.json {
				c.say("%s  revoked %s", cert.Serial, stamp(cert.RevokedAt))
			}
			l := c.lists(ctx, i, cert.Issuer, cert.RevokedAt)
			if c.json {
				return c.print(revokedJSON{certToJSON(cert, now()), l.json()})
			}
			c.tell(l)
			return nil
		})
	}
	c.actorFlags(cmd)
	cmd.Flags().StringVar(&reasonName, "reason", "", "reason of RFC 5280: keyCompromise, cessationOfOperation, superseded, affiliationChanged, privilegeWithdrawn, certificateHold, unspecified")
	cmd.Flags().StringVar(&why, "why", "", "in words, for the record")
	cmd.Flags().StringVar(&effective, "effective", "", "revoked from then on, not now, at most 120 days ahead (承継): YYYY-MM-DD, its beginning in Japan, or a time of RFC 3339")
	cmd.Flags().StringVar(&since, "invalid-since", "", "since when nothing signed with it is to be believed (invalidityDate), as --effective; on hold now, another officer makes it final")
	cmd.Flags().BoolVar(&c.json, "json", false, "print JSON")
	_ = cmd.MarkFlagRequired("reason")
	return cmd
}

// revokeDated revokes with a date and says what is to be done about the case.
func (c *cli) revokeDated(ctx context.Context, i *instance, by pki.Actor, serial string, reason pki.Reason, dates pki.RevocationDates, why string) error {
	d, err := i.ra.RevokeDated(ctx, by, serial, reason, dates, why)
	if err != nil {
		return err
	}
	v, cert := d.Revocation, d.Certificate
	officers, err := i.ops.InForce(ctx, pki.RoleOfficer)
	if err != nil {
		return err
	}
	if c.json {
		out := revokedJSON{certJSON: certToJSON(cert, now())}
		if v.Held() {
			out.listedJSON = c.lists(ctx, i, cert.Issuer, cert.RevokedAt).json()
		}
		out.Case, out.CaseThere, out.ToLift, out.InForce = v.ID, d.There, pki.OfficersToUndo, officers
		return c.print(out)
	}
	if d.There {
		c.say("%s  the same was said at %s: nothing is added to case %s", cert.Serial, stamp(v.ReceivedAt), v.ID)
	}
	if v.Dated() {
		c.say("%s  revoked from %s, good until then", cert.Serial, stamp(v.Dates.Effective))
		c.sayLift(v, "take it back before", officers)
		return nil
	}
	c.say("%s  on hold since %s\n  another officer makes it final, invalid since %s, with: %s", cert.Serial, stamp(cert.RevokedAt),
		stamp(v.Dates.InvalidSince), c.commandLine("revocation approve --as OPERATOR "+v.ID))
	c.sayLift(v, "lift the hold", officers)
	if v.Held() {
		c.tell(c.lists(ctx, i, cert.Issuer, cert.RevokedAt))
	}
	return nil
}

// tellHold tells of a hold that an officer has just placed, and who can lift it.
func (c *cli) tellHold(ctx context.Context, i *instance, by pki.Actor, cert pki.Certificate) error {
	open, err := i.ra.Revocations(ctx, by, store.RevocationFilter{State: pki.RevocationReceived, Serials: []string{cert.Serial}})
	if err != nil {
		return err
	}
	officers, err := i.ops.InForce(ctx, pki.RoleOfficer)
	if err != nil {
		return err
	}
	var v pki.Revocation
	for _, d := range open {
		if d.Revocation.Held() && d.Revocation.Proof == pki.ByOfficer {
			v = d.Revocation
		}
	}
	if c.json {
		out := revokedJSON{certToJSON(cert, now()), c.lists(ctx, i, cert.Issuer, cert.RevokedAt).json()}
		out.Case, out.ToLift, out.InForce = v.ID, pki.OfficersToUndo, officers
		return c.print(out)
	}
	c.say("%s  on hold since %s", cert.Serial, stamp(cert.RevokedAt))
	c.sayLift(v, "lift the hold", officers)
	c.tell(c.lists(ctx, i, cert.Issuer, cert.RevokedAt))
	return nil
}

// sayLift says how many officers undo a case, and whether there are so many.
func (c *cli) sayLift(v pki.Revocation, undo string, officers int) {
	c.say("  %d different officers %s, one after the other, with: %s", pki.OfficersToUndo, undo, c.commandLine("revocation lift --as OPERATOR "+v.ID))
	if officers < pki.OfficersToUndo {
		c.say("  officers in force: %d, so nobody could do that now; an administrator adds another with: %s", officers,
			c.commandLine("operator add --as OPERATOR --role officer ID"))
	}
}

func parseDates(effective, since string) (pki.RevocationDates, error) {
	var d pki.RevocationDates
	var err error
	d.Effective, err = parseMoment(effective)
	if err != nil {
		return d, err
	}
	d.InvalidSince, err = parseMoment(since)
	return d, err
}

// parseMoment reads a day, which is its beginning in Japan, or a time of RFC 3339.
func parseMoment(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t, err = parseDay(text)
	}
	return t.UTC(), err
}

// parseDay reads a day, YYYY-MM-DD, and gives its beginning in Japan.
func parseDay(text string) (time.Time, error) {
	day, err := time.ParseInLocation(time.DateOnly, text, pki.JST)
	if err != nil {
		return time.Time{}, pki.E(pki.Invalid, "date.form").With("Date", text)
	}
	return day, nil
}
