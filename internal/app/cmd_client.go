package app

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"inkan/internal/issuance"
	"inkan/internal/ops"
	"inkan/internal/pki"
	"inkan/internal/store"
)

// addClient makes key and certificate of an API client, writes both beside the
// configuration, and registers it.
func (i *instance) addClient(ctx context.Context, by pki.Actor, id, name string) (certFile, keyFile string, err error) {
	err = ops.CheckID(id)
	if err != nil {
		return "", "", err
	}
	certFile, keyFile = inside(i.dir, "client-"+id+".pem"), inside(i.dir, "client-"+id+".key.pem")
	_, err = os.Lstat(keyFile)
	if err == nil {
		return "", "", pki.E(pki.Conflict, "client.exists").With("Client", id)
	}
	key, cert, err := i.ownCertificate(ctx, issuance.ProfileAPIClient, id+" client", nil, nil)
	if err != nil {
		return "", "", err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return "", "", fmt.Errorf("encode key: %w", err)
	}
	defer clear(der)
	err = writeCert(certFile, cert)
	if err != nil {
		return "", "", fmt.Errorf("write %s: %w", certFile, err)
	}
	err = os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600)
	if err != nil {
		return "", "", fmt.Errorf("write %s: %w", keyFile, err)
	}
	return certFile, keyFile, i.ops.AddAPIClient(ctx, by, store.APIClient{ID: id, Name: name, CertSHA256: hashHex(cert.Raw), Role: pki.RoleRA})
}

func (c *cli) clientCommand() *cobra.Command {
	var name string
	add := &cobra.Command{Use: "add ID", Short: "register a program with a certificate of the Operations CA", Args: cobra.ExactArgs(1)}
	add.RunE = func(cmd *cobra.Command, args []string) error {
		return c.with(cmd, true, func(ctx context.Context, i *instance) error {
			by, err := c.actor(ctx, i, cmd, args[0])
			if err != nil {
				return err
			}
			err = by.Need(pki.MayManage)
			if err != nil {
				return err
			}
			certFile, keyFile, err := i.addClient(ctx, by, args[0], name)
			if err != nil {
				return err
			}
			c.say("%s  certificate in %s, key in %s", args[0], certFile, keyFile)
			return nil
		})
	}
	c.actorFlags(add)
	add.Flags().StringVar(&name, "name", "", "name of the vendor or system")
	cmd := &cobra.Command{Use: "client", Short: "programs that use the API"}
	cmd.AddCommand(add)
	return cmd
}

func (c *cli) grantCommand() *cobra.Command {
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
	cmd := &cobra.Command{Use: "grant", Short: "standing approvals for API clients (一括承認枠)"}
	cmd.AddCommand(draft,
		c.onGrant("approve", "approve a draft as the second person", func(ctx context.Context, i *instance, by pki.Actor, id string) error {
			return i.ra.ApproveGrant(ctx, by, id)
		}),
		c.onGrant("revoke", "end a grant at once", func(ctx context.Context, i *instance, by pki.Actor, id string) error {
			return i.ra.RevokeGrant(ctx, by, id)
		}))
	return cmd
}

func (c *cli) onGrant(name, short string, do func(ctx context.Context, i *instance, by pki.Actor, id string) error) *cobra.Command {
	done := strings.TrimSuffix(name, "e") + "ed"
	return c.onRequest(name, short, false, func(ctx context.Context, i *instance, by pki.Actor, id string) (string, error) {
		return done, do(ctx, i, by, id)
	})
}
