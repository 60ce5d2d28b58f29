package app

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"inkan/internal/pki"
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
	cmd.AddCommand(add, list, disable, c.recoverOperatorCommand())
	return cmd
}
