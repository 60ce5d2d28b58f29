package catest

import (
	"fmt"

	"inkan/internal/store"
)

// Disarm drops every guard of the database, as somebody who owns it could.
func (o *Office) Disarm() {
	o.T.Helper()
	if o.disarmed {
		return
	}
	o.disarmed = true
	list, drop := `SELECT name, tbl_name FROM sqlite_master WHERE type = 'trigger'`, `DROP TRIGGER %[1]s`
	if o.DB.Engine() == store.PostgreSQL {
		list = `SELECT tgname, relname FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid WHERE NOT tgisinternal`
		drop = `DROP TRIGGER %[1]s ON %[2]s`
	}
	db := o.Raw()
	defer func() { _ = db.Close() }()
	rows, err := db.QueryContext(o.T.Context(), list)
	Must(o.T, err)
	var drops []string
	for rows.Next() {
		var name, table string
		Must(o.T, rows.Scan(&name, &table))
		drops = append(drops, fmt.Sprintf(drop, name, table))
	}
	Must(o.T, rows.Close())
	if len(drops) == 0 {
		o.T.Fatal("no guards found")
	}
	for _, d := range drops {
		o.SQL(d)
	}
}
