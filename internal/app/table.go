package app

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/text/width"
)

// table prints rows in columns.
func (c *cli) table(head []string, rows int, row func(n int) []string) error {
	lines := [][]string{head}
	for n := range rows {
		lines = append(lines, row(n))
	}
	widths := make([]int, len(head))
	for _, cells := range lines {
		for n, cell := range cells {
			widths[n] = max(widths[n], columns(cell))
		}
	}
	for _, cells := range lines {
		var out strings.Builder
		for n, cell := range cells {
			out.WriteString(cell)
			out.WriteString(strings.Repeat(" ", widths[n]-columns(cell)+2))
		}
		_, err := fmt.Fprintln(c.stdout, strings.TrimRight(out.String(), " "))
		if err != nil {
			return err
		}
	}
	return nil
}

// columns counts the columns of a terminal that a text takes: two for 端, one for A.
func columns(s string) int {
	n := 0
	for _, r := range s {
		switch width.LookupRune(r).Kind() {
		case width.EastAsianWide, width.EastAsianFullwidth:
			n += 2
		default:
			n++
		}
	}
	return n
}

// more says how to go on behind a full page.
func (c *cli) more(last string) {
	_, _ = fmt.Fprintf(c.stderr, "there may be more: --after %s\n", last)
}

// maxPage is the longest list that one command gives.
const maxPage = 1000

// limit is a flag that takes 1 to maxPage.
type limit struct{ n *int }

var _ pflag.Value = limit{}

func (l limit) String() string {
	if l.n == nil {
		return ""
	}
	return strconv.Itoa(*l.n)
}

func (limit) Type() string { return "int" }

func (l limit) Set(s string) error {
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > maxPage {
		return fmt.Errorf("1 to %d", maxPage)
	}
	*l.n = n
	return nil
}

func limitFlag(cmd *cobra.Command, n *int) {
	*n = 100
	cmd.Flags().Var(limit{n}, "limit", "at most so many")
}
