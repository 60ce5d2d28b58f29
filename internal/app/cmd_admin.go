package app

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"inkan/internal/ops"
	"inkan/internal/pki"
	"inkan/internal/store"
)

func (c *cli) initCommand() *cobra.Command {
	var config, name, account string
	cmd := &cobra.Command{Use: "init", Short: "make an instance directory: configuration, keys, CAs, database, first operator"}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		in := &ceremony{dir: c.dir, config: defaultConfig(defaultPortBase), log: c.logger(false), progress: c.stderr}
		if config != "" {
			var faults []fault
			var err error
			in.config, faults, err = readConfig(config)
			if err == nil {
				err = refuse(config, faults...)
			}
			if err != nil {
				return err
			}
		}
		if in.config.Mode == "demo" {
			return pki.E(pki.Invalid, "init.demo")
		}
		first := newOperator{ID: name, Name: name, Roles: []pki.Role{pki.RoleAdmin, pki.RoleAuditor}, File: "operator-" + name + ".p12", Password: newPassword(20)}
		var err error
		first.Account, err = accountOf(account)
		if err != nil {
			return err
		}
		in.operators = []newOperator{first}
		err = in.run(cmd.Context())
		if err != nil {
			return err
		}
		c.say("made %s", in.dir)
		c.say("")
		c.say("Write these down now; they are shown once and kept nowhere:")
		c.say("  password of %s:  %s", first.File, first.Password.Reveal())
		c.say("  passphrase of offline/root.key.age:  %s", in.rootPassphrase.Reveal())
		c.say("")
		if strings.HasPrefix(in.config.Status.URL, "http://127.0.0.1") {
			c.say("Certificates of this instance will name %s for OCSP and CRL: this machine only.", in.config.Status.URL)
			c.say("For a real network begin again with a configuration that sets status.url, portal.hosts and api.hosts:")
			c.say("  inkan init --config FILE")
			c.say("")
		}
		c.say("Then carry offline/root.key.age away (the root's key is not needed to run),")
		c.say("move %s into a systemd credential, and start: inkan serve --dir %s", in.config.Signer.PassphraseFile, in.dir)
		return nil
	}
	cmd.Flags().StringVar(&config, "config", "", "configuration to begin with (default: every default)")
	cmd.Flags().StringVar(&name, "operator", "admin", "ID of the first operator, an administrator")
	osUserFlag(cmd, &account)
	return cmd
}

func (c *cli) operatorCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "operator", Short: "operators (担当者)"}
	var roles []string
	var name, account string
	add := &cobra.Command{Use: "add ID", Short: "make an operator with a certificate", Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		o := newOperator{ID: args[0], Name: name, File: "operator-" + args[0] + ".p12", Password: newPassword(20)}
		if o.Name == "" {
			o.Name = o.ID
		}
		for _, r := range roles {
			o.Roles = append(o.Roles, pki.Role(r))
		}
		var err error
		o.Account, err = accountOf(account)
		if err != nil {
			return err
		}
		content := args[0] + " " + strings.Join(roles, ",")
		if account != "" {
			content += fmt.Sprintf(" %s %d", o.Account.Name, o.Account.UID)
		}
		return c.with(cmd, true, func(ctx context.Context, i *instance) error {
			by, err := c.actor(ctx, i, cmd, content)
			if err != nil {
				return err
			}
			err = i.addOperator(ctx, by, o)
			if err != nil {
				return err
			}
			c.say("%s  certificate in %s", o.ID, inside(i.dir, o.File))
			c.say("password, shown once: %s", o.Password.Reveal())
			return nil
		})
	}}
	c.actorFlags(add)
	add.Flags().StringSliceVar(&roles, "role", nil, "roles: intake, approver, letters, officer, admin, auditor")
	add.Flags().StringVar(&name, "name", "", "name of the person")
	osUserFlag(add, &account)
	_ = add.MarkFlagRequired("role")
	list := &cobra.Command{Use: "list", Short: "list operators", RunE: func(cmd *cobra.Command, _ []string) error {
		return c.with(cmd, false, func(ctx context.Context, i *instance) error {
			all, err := i.ops.Operators(ctx)
			if err != nil {
				return err
			}
			type row struct {
				ID       string     `json:"id"`
				Name     string     `json:"name"`
				Roles    []pki.Role `json:"roles"`
				OSUser   string     `json:"osUser,omitempty"`
				Disabled string     `json:"disabledAt,omitempty"`
			}
			out := make([]row, len(all))
			for n, o := range all {
				out[n] = row{o.ID, o.Name, o.Roles, o.Account.Name, stamp(o.DisabledAt)}
			}
			if c.json {
				return c.print(out)
			}
			return c.table([]string{"ID", "NAME", "ROLES", "ACCOUNT", "DISABLED"}, len(out), func(n int) []string {
				return []string{out[n].ID, out[n].Name, strings.Trim(fmt.Sprint(out[n].Roles), "[]"), out[n].OSUser, out[n].Disabled}
			})
		})
	}}
	list.Flags().BoolVar(&c.json, "json", false, "print JSON")
	disable := &cobra.Command{Use: "disable ID", Short: "end an operator's powers at once", Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		return c.with(cmd, false, func(ctx context.Context, i *instance) error {
			by, err := c.actor(ctx, i, cmd, args[0])
			if err != nil {
				return err
			}
			err = i.ops.DisableOperator(ctx, by, args[0])
			if err != nil {
				return err
			}
			c.say("%s  disabled", args[0])
			return nil
		})
	}}
	c.actorFlags(disable)
	cmd.AddCommand(add, list, disable)
	return cmd
}

// auditJSON is the outcome of a verification on the command line's JSON output.
type auditJSON struct {
	Records     int64         `json:"records"`
	Erased      int64         `json:"erased"`
	Checkpoints int           `json:"checkpoints"`
	Signed      int64         `json:"signed"` // records under the newest checkpoint
	Root        string        `json:"root"`
	Findings    []findingJSON `json:"findings"`
	More        int           `json:"more,omitempty"`
	Rows        int64         `json:"rows"` // compared with the records
	Deviations  []rowJSON     `json:"deviations"`
}

type rowJSON struct {
	Table string `json:"table"`
	Key   string `json:"key"`
	Field string `json:"field,omitempty"` // none: the whole row
	What  string `json:"what,omitempty"`  // of a definition of the database
}

type findingJSON struct {
	Record int64  `json:"record"`
	Count  int64  `json:"count"`
	What   string `json:"what"`
}

func auditToJSON(r store.Report, rows ops.RegisterReport) auditJSON {
	out := auditJSON{Records: r.Size, Erased: r.Erased, Checkpoints: r.Checkpoints, Signed: r.Protected,
		Root: r.Root.String(), Findings: make([]findingJSON, len(r.Findings)), More: r.More + rows.More,
		Rows: rows.Rows, Deviations: make([]rowJSON, len(rows.Deviations))}
	for n, d := range rows.Deviations {
		out.Deviations[n] = rowJSON(d)
	}
	for n, f := range r.Findings {
		out.Findings[n] = findingJSON{f.Index, f.Count, f.What}
	}
	return out
}

// findingWords say what was found.
var findingWords = map[string]string{
	store.RecordChanged:    "changed: its text does not give its leaf",
	store.RecordMissing:    "missing",
	store.RecordInserted:   "inserted: the tree does not have it",
	store.RecordErased:     "erased without a record that says who erased it",
	store.HashDiffers:      "rewritten: its leaf and the stored tree disagree",
	store.HashMissing:      "a stored hash of the tree is missing",
	store.HashExtra:        "a stored hash that the tree does not have",
	store.RootDiffers:      "the stored root and the records disagree",
	store.CheckpointForged: "a checkpoint that the signer did not sign",
	store.CheckpointBroken: "the records are not those that were signed",
	store.Unverifiable:     "a checkpoint cannot be verified: records before it are missing",
}

// definitionWords say what was found of a definition of the database.
var definitionWords = map[string]string{
	store.DefinitionMissing:  "missing",
	store.DefinitionChanged:  "not as this program makes it",
	store.DefinitionDisabled: "disabled",
	store.DefinitionUnknown:  "not of this program",
	ops.Unchecked:            "could not be compared: the database role of this program may not create a schema (GRANT CREATE ON DATABASE)",
}

// madeAnew are the definitions that migrate puts right.
var madeAnew = []string{"trigger", "function"}

func deviationWords(d ops.Deviation) string {
	if d.What != "" {
		of, hint := "", ""
		if d.Table != "" {
			of = " of table " + d.Table
		}
		kind, _, _ := strings.Cut(d.Key, " ")
		if d.What != store.DefinitionUnknown && slices.Contains(madeAnew, kind) {
			hint = `; "inkan migrate" makes it anew`
		}
		return fmt.Sprintf("%s%s: %s%s", d.Key, of, definitionWords[d.What], hint)
	}
	if d.Field == "" {
		return fmt.Sprintf("%s %s: the row and the records do not know each other", d.Table, d.Key)
	}
	return fmt.Sprintf("%s %s: %s is not what the records say", d.Table, d.Key, d.Field)
}

func (c *cli) auditCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "audit", Short: "the audit tree (監査記録)"}
	verify := &cobra.Command{Use: "verify", Short: "check every record against the tree and its signed checkpoints, and every row against the records", RunE: func(cmd *cobra.Command, _ []string) error {
		return c.with(cmd, true, func(ctx context.Context, i *instance) error {
			info, err := i.signer.Info(ctx)
			if err != nil {
				return err
			}
			unsigned := i.ops.Checkpoint(ctx) // a signer that refuses is told after what was found
			report, err := i.db.VerifyAudit(ctx, info.AuditVerifierKey, nil)
			if err != nil {
				return errors.Join(unsigned, err)
			}
			if lost := info.HighWater.TreeSize - report.Size; lost > 0 {
				// An older database, whole in itself: the signer remembers what it signed.
				report.Findings = append(report.Findings, store.Finding{Index: report.Size, Count: lost, What: store.RecordMissing})
			}
			rows, err := i.ops.VerifyRegister(ctx)
			if err != nil {
				return errors.Join(unsigned, err)
			}
			if c.json {
				err = c.print(auditToJSON(report, rows))
			} else {
				c.say("%d records, %d erased, %d signed checkpoints, the newest over %d records", report.Size, report.Erased, report.Checkpoints, report.Protected)
				for _, f := range report.Findings {
					c.say("record %d: %s", f.Index, findingWords[f.What])
				}
				c.say("%d rows compared with the records", rows.Rows)
				for _, d := range rows.Deviations {
					c.say("%s", deviationWords(d))
				}
			}
			if err == nil && !(report.OK() && rows.OK()) {
				err = pki.E(pki.Conflict, "audit.broken").With("Findings", len(report.Findings)+report.More+len(rows.Deviations)+rows.More)
			}
			return errors.Join(err, unsigned)
		})
	}}
	verify.Flags().BoolVar(&c.json, "json", false, "print JSON")
	var index int64
	proof := &cobra.Command{Use: "proof", Short: "print a record with the proof that it is in the tree", RunE: func(cmd *cobra.Command, _ []string) error {
		return c.with(cmd, true, func(ctx context.Context, i *instance) error {
			err := i.ops.Checkpoint(ctx)
			if err != nil {
				return err
			}
			p, err := i.db.ProveAudit(ctx, index)
			if pki.ClassOf(err) == pki.NotFound {
				return pki.E(pki.NotFound, "audit.no_record").With("Index", index)
			}
			if err != nil {
				return err
			}
			return c.print(p)
		})
	}}
	proof.Flags().Int64Var(&index, "index", 0, "index of the record")
	_ = proof.MarkFlagRequired("index")
	cmd.AddCommand(verify, proof)
	return cmd
}
