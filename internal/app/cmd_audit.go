package app

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"inkan/internal/ops"
	"inkan/internal/pki"
	"inkan/internal/store"
	"inkan/internal/store/audit"
)

// auditJSON is the outcome of a verification on the command line's JSON output.
type auditJSON struct {
	Records     int64         `json:"records"`
	Erased      int64         `json:"erased"`
	Checkpoints int           `json:"checkpoints"`
	Signed      int64         `json:"signed"` // records under the newest checkpoint
	Root        string        `json:"root"`
	Losses      []lossJSON    `json:"losses,omitempty"` // that two administrators accepted
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
	Record     int64  `json:"record"`
	Count      int64  `json:"count"`
	What       string `json:"what"`
	Checkpoint int64  `json:"checkpoint,omitempty"` // its number
}

type lossJSON struct {
	Signed int64  `json:"signed"` // records that the signer had signed
	Kept   int64  `json:"kept"`   // number of the newest checkpoint of that tree that holds still
	Here   int64  `json:"here"`   // records with which the tree went on
	At     string `json:"at"`
	Reason string `json:"reason"`
}

func auditToJSON(r audit.Report, rows ops.RegisterReport) auditJSON {
	out := auditJSON{Records: r.Size, Erased: r.Erased, Checkpoints: r.Checkpoints, Signed: r.Protected,
		Root: r.Root.String(), Findings: make([]findingJSON, len(r.Findings)), More: r.More + rows.More,
		Rows: rows.Rows, Deviations: make([]rowJSON, len(rows.Deviations))}
	for n, d := range rows.Deviations {
		out.Deviations[n] = rowJSON(d)
	}
	for n, f := range r.Findings {
		out.Findings[n] = findingJSON{f.Index, f.Count, f.What, f.Checkpoint}
	}
	for _, l := range r.Losses {
		out.Losses = append(out.Losses, lossJSON{l.Lost.Size, l.Kept, l.Next.Size, stamp(l.At), l.Reason})
	}
	return out
}

// findingWords say what was found.
var findingWords = map[string]string{
	audit.RecordChanged:     "changed: its text does not give its leaf",
	audit.RecordMissing:     "missing",
	audit.RecordInserted:    "inserted: the tree does not have it",
	audit.RecordErased:      "erased without a record that says who erased it",
	audit.HashDiffers:       "rewritten: its leaf and the stored tree disagree",
	audit.HashMissing:       "a stored hash of the tree is missing",
	audit.HashExtra:         "a stored hash that the tree does not have",
	audit.RootDiffers:       "the stored root and the records disagree",
	audit.CheckpointForged:  "not one that the signer signed",
	audit.CheckpointBroken:  "the records from here on are not those that were signed",
	audit.CheckpointMissing: "missing: the signer signed it",
	audit.SignerBehind:      "the signer does not remember it: its journal is older than what it signed",
	audit.Unverifiable:      "from here on no checkpoint can be verified: records are missing",
}

// ofCheckpoint are the findings that are about a checkpoint and not about a record.
var ofCheckpoint = []string{audit.CheckpointForged, audit.CheckpointMissing, audit.SignerBehind}

func findingLine(f audit.Finding) string {
	if !slices.Contains(ofCheckpoint, f.What) {
		return fmt.Sprintf("record %d: %s", f.Index, findingWords[f.What])
	}
	if f.Count > 1 {
		return fmt.Sprintf("checkpoints %d to %d: %s", f.Checkpoint, f.Checkpoint+f.Count-1, findingWords[f.What])
	}
	return fmt.Sprintf("checkpoint %d: %s", f.Checkpoint, findingWords[f.What])
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
	verify := &cobra.Command{Use: "verify", Short: "check every record against the tree, its checkpoints and the signer, and every row against the records", RunE: func(cmd *cobra.Command, _ []string) error {
		return c.with(cmd, true, c.verifyAudit)
	}}
	verify.Flags().BoolVar(&c.json, "json", false, "print JSON")
	var index int64
	proof := &cobra.Command{Use: "proof", Short: "print a record with the proof that it is in the tree, for an auditor", RunE: func(cmd *cobra.Command, _ []string) error {
		return c.with(cmd, true, func(ctx context.Context, i *instance) error {
			by, err := c.reader(ctx, i, cmd)
			if err != nil {
				return err
			}
			p, err := i.ops.ProveRecord(ctx, by, index)
			if err != nil {
				return err
			}
			return c.print(p)
		})
	}}
	c.readerFlags(proof)
	proof.Flags().Int64Var(&index, "index", 0, "index of the record")
	_ = proof.MarkFlagRequired("index")
	cmd.AddCommand(verify, proof, c.acceptLossCommand())
	return cmd
}

// verifyAudit checks first and has the signer sign only what was found right.
func (c *cli) verifyAudit(ctx context.Context, i *instance) error {
	v, err := i.ops.Verify(ctx)
	if err != nil {
		return err
	}
	report, rows := v.Tree, v.Rows
	if c.json {
		err = c.print(auditToJSON(report, rows))
	} else {
		c.sayAudit(report, rows)
	}
	if err != nil {
		return err
	}
	first, found := report.First()
	findings := len(report.Findings) + report.More + len(rows.Deviations) + rows.More
	switch {
	case found:
		return pki.E(pki.Conflict, "audit.broken_at").With("Findings", findings).With("First", first)
	case findings > 0:
		return pki.E(pki.Conflict, "audit.broken").With("Findings", findings)
	}
	return i.ops.Checkpoint(ctx)
}

func (c *cli) sayAudit(report audit.Report, rows ops.RegisterReport) {
	c.say("%d records, %d erased, %d signed checkpoints, the newest over %d records", report.Size, report.Erased, report.Checkpoints, report.Protected)
	for _, l := range report.Losses {
		c.say("lost: of %d signed records those after checkpoint %d; the tree went on from %d records, accepted by two administrators at %s: %s",
			l.Lost.Size, l.Kept, l.Next.Size, stamp(l.At), l.Reason)
	}
	for _, f := range report.Findings {
		c.say("%s", findingLine(f))
	}
	c.say("%d rows compared with the records", rows.Rows)
	for _, d := range rows.Deviations {
		c.say("%s", deviationWords(d))
	}
}

// acceptLossCommand is the only way on from a tree that contradicts what the signer
// remembers. The first administrator writes a file, the second accepts it.
func (c *cli) acceptLossCommand() *cobra.Command {
	var reason, out string
	cmd := &cobra.Command{Use: "accept-loss [FILE]", Short: "let the signer follow the records that are there, where it remembers others; by two administrators", Args: cobra.MaximumNArgs(1)}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 && (reason == "" || out == "") || len(args) == 1 && (reason != "" || out != "") {
			return &usageError{trimRoot(cmd), errors.New("the first administrator gives --reason and --out, the second the file")}
		}
		if c.key == "" {
			return pki.E(pki.Forbidden, "audit.loss_key")
		}
		return c.with(cmd, true, func(ctx context.Context, i *instance) error {
			if len(args) == 1 {
				return c.acceptLoss(ctx, i, args[0])
			}
			return c.draftLoss(ctx, i, reason, out)
		})
	}
	c.actorFlags(cmd)
	cmd.Flags().StringVar(&reason, "reason", "", "why the records are lost, for the record that stays")
	cmd.Flags().StringVar(&out, "out", "", "file for the second administrator")
	return cmd
}

func (c *cli) draftLoss(ctx context.Context, i *instance, reason, out string) error {
	statement, err := i.ops.DraftLoss(ctx, reason)
	if err != nil {
		return err
	}
	statement, err = c.signLoss(ctx, i, statement)
	if err != nil {
		return err
	}
	raw, err := json.MarshalIndent(statement, "", "  ")
	if err != nil {
		return fmt.Errorf("encode statement: %w", err)
	}
	err = writeNew(out, string(raw)+"\n")
	if err != nil {
		return pki.E(pki.Invalid, "file.unwritable").With("File", out).Because(err)
	}
	c.sayLoss(statement.Loss)
	c.say("Nothing has changed yet. Another administrator accepts it within 24 hours:")
	c.say("  %s", c.commandLine("audit accept-loss --as OPERATOR --key P12 "+out))
	return nil
}

func (c *cli) acceptLoss(ctx context.Context, i *instance, file string) error {
	raw, err := readLimited(file, maxKeyFile)
	if err != nil {
		return pki.E(pki.Invalid, "file.unreadable").With("File", file).Because(err)
	}
	statement, err := ops.ReadLossStatement(raw)
	if err != nil {
		return err
	}
	c.sayLoss(statement.Loss)
	statement, err = c.signLoss(ctx, i, statement)
	if err != nil {
		return err
	}
	err = i.ops.AcceptLoss(ctx, statement)
	if err != nil {
		return err
	}
	c.say("Accepted. The signer follows these records now, and inkan audit verify goes on telling of the loss.")
	return nil
}

func (c *cli) sayLoss(l pki.Loss) {
	c.say("The signer has signed %d audit records (checkpoint %d). %d are here.", l.Lost.Size, l.Lost.Number, l.Next.Size)
	c.say("They are as they were signed up to checkpoint %d. What was signed after it is lost for good.", l.Kept)
	c.say("Reason: %s", l.Reason)
}

func (c *cli) signLoss(ctx context.Context, i *instance, statement ops.LossStatement) (ops.LossStatement, error) {
	key, cert, err := c.openKey()
	if err != nil {
		return statement, err
	}
	return i.ops.SignLoss(ctx, statement, c.as, cert.Raw, func(text []byte) ([]byte, error) {
		digest := sha256.Sum256(text)
		return key.Sign(rand.Reader, digest[:], crypto.SHA256)
	})
}
