package app

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

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
	certFile, keyFile = clientFiles(i.dir, id)
	_, err = os.Lstat(keyFile)
	if err == nil {
		return "", "", pki.E(pki.Conflict, "client.exists").With("Client", id)
	}
	all, err := i.ops.APIClients(ctx)
	if err != nil {
		return "", "", err
	}
	if slices.ContainsFunc(all, func(d ops.ClientDetail) bool { return d.Client.ID == id }) {
		return "", "", pki.E(pki.Conflict, "client.exists").With("Client", id)
	}
	return certFile, keyFile, i.makeClient(ctx, id, func(hash string) error {
		return i.ops.AddAPIClient(ctx, by, store.APIClient{ID: id, Name: name, CertSHA256: hash, Role: pki.RoleRA})
	})
}

// renewClient makes another key and certificate for an API client. Those of before are of
// no use from then on, and their files are written over.
func (i *instance) renewClient(ctx context.Context, by pki.Actor, id string) (certFile, keyFile string, err error) {
	seen, err := i.ops.APIClient(ctx, id)
	if err != nil {
		return "", "", err
	}
	certFile, keyFile = clientFiles(i.dir, id)
	return certFile, keyFile, i.makeClient(ctx, id, func(hash string) error { return i.ops.RenewAPIClient(ctx, by, seen, hash) })
}

func clientFiles(dir, id string) (certFile, keyFile string) {
	return inside(dir, "client-"+id+".pem"), inside(dir, "client-"+id+".key.pem")
}

// makeClient makes key and certificate of an API client, and has it registered by the hash
// of the certificate. The files are in their places when it is; until then those of before
// stay.
func (i *instance) makeClient(ctx context.Context, id string, register func(hash string) error) error {
	certFile, keyFile := clientFiles(i.dir, id)
	key, cert, err := i.ownCertificate(ctx, issuance.ProfileAPIClient, id+" client", nil, nil)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("encode key: %w", err)
	}
	defer clear(der)
	err = writeCert(certFile+".new", cert)
	if err != nil {
		return fmt.Errorf("write %s: %w", certFile, err)
	}
	err = os.WriteFile(keyFile+".new", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600)
	if err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", keyFile, err), os.Remove(certFile+".new"))
	}
	err = register(hashHex(cert.Raw))
	if err != nil {
		return errors.Join(err, os.Remove(certFile+".new"), os.Remove(keyFile+".new"))
	}
	return errors.Join(os.Rename(certFile+".new", certFile), os.Rename(keyFile+".new", keyFile))
}

func (c *cli) clientCommand() *cobra.Command {
	var name string
	add := &cobra.Command{Use: "add ID", Short: "register a program with a certificate of the Operations CA"}
	c.onClient(add, true, func(ctx context.Context, i *instance, by pki.Actor, id string) error {
		certFile, keyFile, err := i.addClient(ctx, by, id, name)
		if err != nil {
			return err
		}
		c.say("%s  certificate in %s, key in %s", id, certFile, keyFile)
		return nil
	})
	add.Flags().StringVar(&name, "name", "", "name of the vendor or system")
	disable := &cobra.Command{Use: "disable ID", Short: "end what a program may do, at once and for good, and revoke its certificate"}
	c.onClient(disable, false, func(ctx context.Context, i *instance, by pki.Actor, id string) error {
		err := i.ops.DisableAPIClient(ctx, by, id)
		if err != nil {
			return err
		}
		c.say("%s  disabled, and its certificate revoked", id)
		return nil
	})
	renew := &cobra.Command{Use: "renew ID", Short: "give a program another key and certificate; the old one stops working"}
	c.onClient(renew, true, func(ctx context.Context, i *instance, by pki.Actor, id string) error {
		certFile, keyFile, err := i.renewClient(ctx, by, id)
		if err != nil {
			return err
		}
		c.say("%s  certificate in %s, key in %s", id, certFile, keyFile)
		c.say("The old certificate is revoked: it stops working now.")
		return nil
	})
	cmd := &cobra.Command{Use: "client", Short: "programs that use the API"}
	cmd.AddCommand(add, c.listClientsCommand(), disable, renew)
	return cmd
}

// onClient makes a command that an administrator gives about one client.
func (c *cli) onClient(cmd *cobra.Command, needSigner bool, do func(ctx context.Context, i *instance, by pki.Actor, id string) error) {
	cmd.Args = cobra.ExactArgs(1)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return c.with(cmd, needSigner, func(ctx context.Context, i *instance) error {
			by, err := c.actor(ctx, i, cmd, args[0])
			if err != nil {
				return err
			}
			err = by.Need(pki.MayManage)
			if err != nil {
				return err
			}
			return do(ctx, i, by, args[0])
		})
	}
	c.actorFlags(cmd)
}

// clientJSON is an API client on the command line's JSON output.
type clientJSON struct {
	ID       string   `json:"id"`
	Name     string   `json:"name"`
	Role     string   `json:"role"`
	Serial   string   `json:"serial"`
	NotAfter string   `json:"notAfter"`
	State    string   `json:"state"` // of its certificate, or disabled
	Disabled string   `json:"disabledAt,omitempty"`
	Grants   []string `json:"grants"` // in force
}

func (c *cli) listClientsCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "list programs that use the API", RunE: func(cmd *cobra.Command, _ []string) error {
		return c.with(cmd, false, func(ctx context.Context, i *instance) error {
			all, err := i.ops.APIClients(ctx)
			if err != nil {
				return err
			}
			out := make([]clientJSON, len(all))
			for n, d := range all {
				out[n] = clientToJSON(d, now())
			}
			if c.json {
				return c.print(out)
			}
			return c.table([]string{"ID", "NAME", "ROLE", "SERIAL", "NOT AFTER", "STATE", "DISABLED", "GRANTS"}, len(out), func(n int) []string {
				r := out[n]
				return []string{r.ID, r.Name, r.Role, r.Serial, r.NotAfter, r.State, r.Disabled, strings.Join(r.Grants, " ")}
			})
		})
	}}
	cmd.Flags().BoolVar(&c.json, "json", false, "print JSON")
	return cmd
}

func clientToJSON(d ops.ClientDetail, at time.Time) clientJSON {
	out := clientJSON{ID: d.Client.ID, Name: d.Client.Name, Role: string(d.Client.Role), Serial: d.Certificate.Serial, NotAfter: stamp(d.Certificate.NotAfter),
		State: string(d.Certificate.State(at)), Disabled: stamp(d.Client.Disabled), Grants: []string{}}
	if !d.Client.Disabled.IsZero() {
		out.State = "disabled"
	}
	for _, g := range d.Grants {
		out.Grants = append(out.Grants, g.ID)
	}
	return out
}
