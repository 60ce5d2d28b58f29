package app

import (
	"bytes"
	"cmp"
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/ocsp"

	"inkan/internal/issuance"
	"inkan/internal/pki"
	"inkan/internal/store"
)

func hashHex(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// certJSON is a certificate on the command line's JSON output.
type certJSON struct {
	Serial     string `json:"serial"`
	State      string `json:"state"`
	Issuer     string `json:"issuer"`
	Profile    string `json:"profile"`
	RequestID  string `json:"requestId,omitempty"`
	HolderKind string `json:"holderKind,omitempty"`
	HolderCode string `json:"holderCode,omitempty"`
	Terminal   string `json:"terminalName,omitempty"`
	NotBefore  string `json:"notBefore"`
	NotAfter   string `json:"notAfter"`
	SHA256     string `json:"sha256"`
	RevokedAt  string `json:"revokedAt,omitempty"`
	From       string `json:"revokedFrom,omitempty"` // where that is another time: it was dated forward
	Invalid    string `json:"invalidSince,omitempty"`
	Reason     string `json:"reason,omitempty"`
	Case       string `json:"case,omitempty"`      // that a revocation with a date has
	CaseThere  bool   `json:"caseThere,omitempty"` // it was there before
	ToLift     int    `json:"officersToLift,omitempty"`
	InForce    int    `json:"officersInForce,omitempty"`
}

func certToJSON(c pki.Certificate, at time.Time) certJSON {
	out := certJSON{Serial: c.Serial, State: string(c.State(at)), Issuer: c.Issuer, Profile: c.Profile, RequestID: c.RequestID,
		HolderKind: string(c.Holder.Kind), HolderCode: c.Holder.Code, Terminal: c.Terminal,
		NotBefore: stamp(c.NotBefore), NotAfter: stamp(c.NotAfter), SHA256: c.SHA256, RevokedAt: stamp(c.RevokedAt)}
	if !c.RevokedAt.IsZero() {
		out.Reason, out.Invalid = c.Reason.String(), stamp(c.InvalidSince)
	}
	if !c.EffectiveAt.Equal(c.RevokedAt) {
		out.From = stamp(c.EffectiveAt)
	}
	return out
}

func (c *cli) certCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "cert", Short: "certificates (電子証明書)"}
	f := store.CertificateFilter{}
	list := &cobra.Command{Use: "list", Short: "list certificates", RunE: func(cmd *cobra.Command, _ []string) error {
		if !slices.Contains(online, f.Issuer) {
			return &usageError{trimRoot(cmd), fmt.Errorf("--issuer %q: one of %s", f.Issuer, strings.Join(online, ", "))}
		}
		return c.withCerts(cmd, func(ctx context.Context, i *instance, by pki.Actor) error {
			all, err := i.ra.Certificates(ctx, by, f)
			if err != nil {
				return err
			}
			out := make([]certJSON, len(all))
			for n, cert := range all {
				out[n] = certToJSON(cert, now())
			}
			if c.json {
				return c.print(out)
			}
			err = c.table([]string{"SERIAL", "STATE", "CODE", "TERMINAL", "NOT AFTER", "REVOKED FROM"}, len(out), func(n int) []string {
				r := out[n]
				return []string{r.Serial, r.State, r.HolderCode, r.Terminal, r.NotAfter, cmp.Or(r.From, r.RevokedAt)}
			})
			if err == nil && len(out) == f.Limit {
				c.more(out[len(out)-1].Serial)
			}
			return err
		})
	}}
	list.Flags().StringVar(&f.Issuer, "issuer", issuance.G1, "issuer: g1, ops, tls")
	list.Flags().StringVar(&f.HolderCode, "code", "", "only this institution")
	list.Flags().StringVar(&f.After, "after", "", "only serials after this one (next page)")
	limitFlag(list, &f.Limit)
	show := c.oneCert("show", "show a certificate", func(cert pki.Certificate) error { return c.print(certToJSON(cert, now())) })
	export := c.oneCert("export", "print a certificate as PEM", func(cert pki.Certificate) error {
		return pem.Encode(c.stdout, &pem.Block{Type: "CERTIFICATE", Bytes: cert.DER})
	})
	c.readerFlags(list)
	cmd.AddCommand(list, show, export)
	return cmd
}

func (c *cli) withCerts(cmd *cobra.Command, do func(ctx context.Context, i *instance, by pki.Actor) error) error {
	return c.with(cmd, false, func(ctx context.Context, i *instance) error {
		by, err := c.reader(ctx, i, cmd)
		if err != nil {
			return err
		}
		return do(ctx, i, by)
	})
}

func (c *cli) oneCert(name, short string, do func(pki.Certificate) error) *cobra.Command {
	cmd := &cobra.Command{Use: name + " SERIAL", Short: short, Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		return c.withCerts(cmd, func(ctx context.Context, i *instance, by pki.Actor) error {
			cert, err := i.ra.Certificate(ctx, by, args[0])
			if err != nil {
				return err
			}
			return do(cert)
		})
	}}
	c.readerFlags(cmd)
	return cmd
}

func (c *cli) crlCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "crl", Short: "make and publish the CRLs now", RunE: func(cmd *cobra.Command, _ []string) error {
		return c.with(cmd, true, func(ctx context.Context, i *instance) error {
			type row struct {
				Issuer     string `json:"issuer"`
				Number     int64  `json:"number"`
				ThisUpdate string `json:"thisUpdate"`
				NextUpdate string `json:"nextUpdate"`
			}
			var out []row
			for _, issuer := range online {
				crl, err := i.ca.PublishCRL(ctx, issuer)
				if err != nil {
					return err
				}
				out = append(out, row{issuer, crl.Number, stamp(crl.ThisUpdate), stamp(crl.NextUpdate)})
			}
			if c.json {
				return c.print(out)
			}
			return c.table([]string{"ISSUER", "NUMBER", "THIS UPDATE", "NEXT UPDATE"}, len(out), func(n int) []string {
				return []string{out[n].Issuer, fmt.Sprint(out[n].Number), out[n].ThisUpdate, out[n].NextUpdate}
			})
		})
	}}
	cmd.Flags().BoolVar(&c.json, "json", false, "print JSON")
	return cmd
}

// ocspTimeout bounds one question to a responder.
const ocspTimeout = 10 * time.Second

func (c *cli) ocspCheckCommand() *cobra.Command {
	var from, issuerFile string
	cmd := &cobra.Command{Use: "ocsp-check SERIAL", Short: "ask the responder about a certificate", Args: cobra.ExactArgs(1)}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		serial, err := pki.ParseSerial(args[0])
		if err != nil {
			return err
		}
		if issuerFile != "" { // from outside, where there is no instance (threat ST12)
			issuer, err := readCert(issuerFile)
			if err != nil {
				return err
			}
			return c.checkOCSP(cmd.Context(), from, issuer, serial)
		}
		return c.with(cmd, false, func(ctx context.Context, i *instance) error {
			if from == "" {
				from = i.config.Status.URL
			}
			return c.checkOCSP(ctx, from, i.cas[issuance.G1], serial)
		})
	}
	cmd.Flags().StringVar(&from, "from", "", "address of the responder (default: status.url of the configuration)")
	cmd.Flags().StringVar(&issuerFile, "issuer", "", "certificate of the issuer (PEM), to ask from a machine without an instance; needs --from")
	cmd.Flags().BoolVar(&c.json, "json", false, "print JSON")
	return cmd
}

// checkOCSP asks a responder and prints what it says; an answer that does not verify
// under the issuer, or none, is an error.
func (c *cli) checkOCSP(ctx context.Context, from string, issuer *x509.Certificate, serial *big.Int) error {
	question, err := ocsp.CreateRequest(&x509.Certificate{SerialNumber: serial}, issuer, &ocsp.RequestOptions{Hash: crypto.SHA256})
	if err != nil {
		return fmt.Errorf("write OCSP request: %w", err)
	}
	raw, err := ask(ctx, from+"/ocsp", question)
	if err != nil {
		return pki.E(pki.Busy, "ocsp.away").With("URL", from).Because(err)
	}
	answer, err := ocsp.ParseResponseForCert(raw, &x509.Certificate{SerialNumber: serial}, issuer)
	if err == nil && now().After(answer.NextUpdate) {
		err = fmt.Errorf("answer ended %s", stamp(answer.NextUpdate)) // somebody in between repeats an old one
	}
	if err != nil {
		return pki.E(pki.Busy, "ocsp.answer").Because(err)
	}
	status := map[int]string{ocsp.Good: "good", ocsp.Revoked: "revoked", ocsp.Unknown: "unknown"}[answer.Status]
	if c.json {
		return c.print(map[string]any{"serial": pki.SerialHex(serial), "status": status, "thisUpdate": stamp(answer.ThisUpdate),
			"nextUpdate": stamp(answer.NextUpdate), "revokedAt": stamp(answer.RevokedAt)})
	}
	c.say("%s  %s  (as of %s)", pki.SerialHex(serial), status, stamp(answer.ThisUpdate))
	return nil
}

func ask(ctx context.Context, url string, question []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, ocspTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(question))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/ocsp-request")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("answer %s", resp.Status)
	}
	return io.ReadAll(io.LimitReader(resp.Body, 64<<10))
}
