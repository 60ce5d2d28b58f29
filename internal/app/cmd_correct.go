package app

import (
	"context"

	"github.com/spf13/cobra"

	"inkan/internal/pki"
)

// correctCommand changes the typed content of a request (訂正): only what is given on
// the command line. Who corrects is excluded from approving.
func (c *cli) correctCommand() *cobra.Command {
	var given pki.Application
	var content string
	cmd := &cobra.Command{Use: "correct ID", Short: "correct a received or returned request (訂正)", Args: cobra.ExactArgs(1)}
	c.actorFlags(cmd)
	f := cmd.Flags()
	f.StringVar(&given.TerminalName, "terminal", "", "name of the terminal (端末名称)")
	f.StringVar(&given.Email, "email", "", "mail address of the institution")
	f.StringVar(&given.MaintenanceEmail, "maintenance-email", "", "second address, for reminders only")
	f.StringVar(&given.Department, "department", "", "department (担当部署名)")
	f.StringVar(&given.Phone, "phone", "", "telephone of the department")
	f.IntVar(&given.PaymentMethod, "payment", 1, "1 deducted from payments, 2 by invoice")
	f.StringVar(&content, "content", "", "content hash that was shown to you; refused when it has changed")
	f.BoolVar(&c.json, "json", false, "print JSON")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return c.with(cmd, false, func(ctx context.Context, i *instance) error {
			by, err := c.actor(ctx, i, cmd, args[0]+" "+given.Hash())
			if err != nil {
				return err
			}
			seen, err := i.ra.Show(ctx, by, args[0])
			if err != nil {
				return err
			}
			a := seen.Request.Application
			for name, set := range map[string]func(){
				"terminal": func() { a.TerminalName = given.TerminalName }, "email": func() { a.Email = given.Email },
				"maintenance-email": func() { a.MaintenanceEmail = given.MaintenanceEmail }, "department": func() { a.Department = given.Department },
				"phone": func() { a.Phone = given.Phone }, "payment": func() { a.PaymentMethod = given.PaymentMethod },
			} {
				if f.Changed(name) {
					set()
				}
			}
			if content == "" {
				content = seen.Request.ContentHash
			}
			r, err := i.ra.Correct(ctx, by, args[0], content, a)
			if err != nil {
				return err
			}
			return c.showRequest(ctx, i, r, "corrected; to be checked and approved by others")
		})
	}
	return cmd
}
