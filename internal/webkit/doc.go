// Package webkit is what every audience of the server shares on HTTP: handlers that
// return errors and the one place that renders them, zones (host names), security
// headers, cookies, page sets, static files, the access log and budgets.
//
// It owns the manners of an answer. It does not own routes, words (i18n) or what a
// page is about. Nothing here writes a secret to a log, and reporting a failure
// cannot itself fail.
package webkit
