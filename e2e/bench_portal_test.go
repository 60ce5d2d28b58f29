package e2e

import (
	"crypto/rand"
	"crypto/tls"
	"database/sql"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	_ "modernc.org/sqlite" // the driver sqlite

	"inkan/internal/pki"
	"inkan/internal/testkit"
)

// portalSize is how many certificates the site has to be quick with.
const portalSize = 100_000

// portal measures how long the server takes for a page, asked on one connection by one
// browser: the whole way there and back is counted. And again while somebody else sends
// wrong IDs as fast as they are answered.
func (b *bench) portal() {
	l := NewLive(b, b.bin, LiveOptions{})
	l.Serve(b)
	b.issueLoad(b.T, l, time.Second) // one to copy
	l.Stop(b)
	dsn := "sqlite://" + l.Dir + "/inkan.db"
	b.fill(b.T, dsn, portalSize)
	l.Serve(b)
	config := b.holder(l)
	l.Stop(b)
	endSoon(b.T, strings.TrimPrefix(dsn, "sqlite://"), config.Certificates[0])
	l.Serve(b)
	auth, plain := fmt.Sprintf("127.0.0.1:%d", l.PortBase+444), fmt.Sprintf("127.0.0.1:%d", l.PortBase+443)
	request := b.renew(auth, config)
	for _, flood := range []bool{false, true} {
		stop, ended := make(chan struct{}), make(chan struct{})
		if flood {
			go func() { defer close(ended); b.wrongIDs(plain, config, stop) }()
		} else {
			close(ended)
		}
		for _, p := range []struct{ address, path string }{{auth, "/p/ru"}, {auth, "/p/ru/r/" + request}, {plain, "/p/rcd"}} {
			what := "page " + strings.Replace(p.path, request, "{id}", 1)
			if flood {
				what += ", wrong IDs meanwhile"
			}
			got := b.pageLoad(p.address, p.path, config)
			const limit = 10 * time.Millisecond
			b.row(what, got.median.Round(10*time.Microsecond).String(), limit.String(), fmt.Sprintf("%.2f", float64(got.median)/float64(limit)),
				fmt.Sprintf("p99 %v, %d certificates", got.p99.Round(10*time.Microsecond), portalSize))
		}
		close(stop)
		<-ended
	}
	l.Stop(b)
}

// pageLoad asks for a page again and again.
func (b *bench) pageLoad(address, path string, config *tls.Config) rate {
	return load(b, 1, b.lasts/2, func(int) (func(int64) error, error) {
		c, err := dialLine(address, config)
		if err != nil {
			return nil, err
		}
		b.Cleanup(func() { _ = c.Close() })
		ask := []byte("GET " + path + " HTTP/1.1\r\nHost: " + address + "\r\nAccept-Language: ja\r\n\r\n")
		return func(int64) error {
			status, _, err := c.roundTrip(ask, false)
			if err == nil && status != http.StatusOK {
				err = fmt.Errorf("%s: %d", path, status)
			}
			return err
		}, nil
	})
}

// wrongIDs is somebody who guesses, on eight connections.
func (b *bench) wrongIDs(address string, config *tls.Config, stop chan struct{}) {
	form := url.Values{"requestId": {"202611230099999"}, "referenceId": {"AAAAAAAAAA"}, "password": {"1234"}, "passwordConfirm": {"1234"}}.Encode()
	ask := request("POST", address, "/p/rcd", "application/x-www-form-urlencoded", []byte(form))
	_ = load(b, 8, time.Hour, func(int) (func(int64) error, error) {
		c, err := dialLine(address, config)
		if err != nil {
			return nil, err
		}
		return func(int64) error {
			select {
			case <-stop:
				_ = c.Close()
				return errEnough
			default:
			}
			_, _, err := c.roundTrip(ask, false)
			return err
		}, nil
	})
}

// holder has a certificate of an institution of its own.
func (b *bench) holder(l *Live) *tls.Config {
	key := testkit.Key(b)
	body, err := json.Marshal(map[string]string{"holderKind": "medical", "holderCode": "011000001" + string(pki.CheckDigit("011000001")), "terminalName": "受付1号機",
		"csr": testkit.CSRText(b.T, key), "idempotencyKey": rand.Text()})
	if err != nil {
		b.Fatal(err)
	}
	config := l.clientTLS(b)
	host := fmt.Sprintf("127.0.0.1:%d", l.PortBase+446)
	c, err := dialLine(host, config)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	status, answer, err := c.roundTrip(request("POST", host, "/api/v1/certificates", "application/json", body), true)
	if err != nil || status != http.StatusCreated {
		b.Fatalf("order: %d %v %s", status, err, answer)
	}
	var got struct{ Certificate string }
	err = json.Unmarshal(answer, &got)
	block, _ := pem.Decode([]byte(got.Certificate))
	if err != nil || block == nil {
		b.Fatalf("no certificate in %s", answer)
	}
	config.Certificates = []tls.Certificate{{Certificate: [][]byte{block.Bytes}, PrivateKey: key}}
	config.NextProtos = []string{"http/1.1"}
	return config
}

// endSoon lets a certificate end in sixty days as far as the database is concerned: a
// live instance makes none that does.
func endSoon(t *testing.T, path string, c tls.Certificate) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, statement := range []string{`DROP TRIGGER certificate_facts_stay`, `UPDATE certificate SET not_after = $1 WHERE der = $2`} {
		args := []any{}
		if strings.Contains(statement, "$1") {
			args = []any{time.Now().AddDate(0, 0, 60).UnixMicro(), c.Certificate[0]}
		}
		_, err = db.Exec(statement, args...)
		if err != nil {
			t.Fatal(err)
		}
	}
}

// renew asks for the renewal, and gives its request ID.
func (b *bench) renew(address string, config *tls.Config) string {
	transport := &http.Transport{TLSClientConfig: config}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	ask := func(method string, form url.Values, cookies []*http.Cookie) (*http.Response, string) {
		r, err := http.NewRequest(method, "https://"+address+"/p/ru/apply", strings.NewReader(form.Encode()))
		if err != nil {
			b.Fatal(err)
		}
		for _, c := range cookies {
			r.AddCookie(c)
		}
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		resp, err := client.Do(r)
		if err != nil {
			b.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			b.Fatal(err)
		}
		return resp, string(text)
	}
	first, page := ask("GET", nil, nil)
	form := regexp.MustCompile(`name="form" value="([^"]+)"`).FindStringSubmatch(page)
	if form == nil {
		b.Fatalf("no form: %d", first.StatusCode)
	}
	resp, _ := ask("POST", url.Values{"form": {form[1]}, "action": {"submit"}}, first.Cookies())
	id, ok := strings.CutPrefix(resp.Header.Get("Location"), "/p/ru/r/")
	if !ok {
		b.Fatalf("submit: %d", resp.StatusCode)
	}
	return id
}
