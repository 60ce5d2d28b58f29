package archtest

import (
	"go/ast"
	"go/token"
	"go/types"
	"slices"
	"strings"
	"testing"
)

// ban forbids the use of a name of another package, in whatever way it is written:
// called, passed on as a value, under another import name.
type ban struct {
	pkg   string
	names []string
	in    []string // packages that may use it all the same; a prefix if it ends in /
	why   string
}

var bans = []ban{
	{"time", []string{"Now", "Since", "Until"}, []string{"internal/app", "cmd/"},
		"time comes in from outside: take a Now func() time.Time"},
	{"os", []string{"Exit"}, []string{"cmd/"},
		"return an error or an exit code: only cmd may end the program"},
	{"html/template", []string{"HTML", "HTMLAttr", "JS", "JSStr", "URL", "CSS", "Srcset"}, nil,
		"a conversion switches escaping off: write a template"},
	{"crypto/tls", []string{"RequireAnyClientCert"}, nil,
		"it accepts any certificate at all: RequestClientCert and judge each request, or RequireAndVerifyClientCert"},
	{"net/http", []string{"DefaultServeMux", "Handle", "HandleFunc", "ListenAndServe", "ListenAndServeTLS", "Get", "Post", "PostForm", "Head"}, nil,
		"no limits: make a server, a mux and a request with time-outs"},
	{"os", []string{"Getenv", "LookupEnv", "Environ", "ExpandEnv"}, []string{"internal/app", "internal/keystore", "cmd/"},
		"settings come from the configuration, wired in app; keystore may find its systemd credential"},
}

func (b ban) allows(short string) bool {
	return slices.ContainsFunc(b.in, func(in string) bool {
		return short == in || strings.HasSuffix(in, "/") && strings.HasPrefix(short, in)
	})
}

func TestForbiddenNames(t *testing.T) {
	for _, s := range sources(t) {
		if isKit(s.Short()) {
			continue
		}
		for id, obj := range s.info.Uses {
			if obj.Pkg() == nil || obj.Parent() != obj.Pkg().Scope() {
				continue // a local, a field or a method
			}
			for _, b := range bans {
				if obj.Pkg().Path() == b.pkg && slices.Contains(b.names, obj.Name()) && !b.allows(s.Short()) {
					t.Errorf("%s: %s.%s: %s", s.where(id.Pos()), b.pkg, obj.Name(), b.why)
				}
			}
		}
	}
}

// hostReaders are the files that may read a Host header, with the reason.
var hostReaders = map[string]string{
	"internal/webkit/zone.go": "the zone middleware: listener, SNI and Host must agree (threat RS3)",
	"internal/app/health.go":  "the internal listener answers to loopback names alone (threat PL4)",
}

// TestHostIsReadOnce: absolute addresses come from the configuration. A Host header
// that reaches a link or a mail sends people to whoever wrote it (threat NO7).
func TestHostIsReadOnce(t *testing.T) {
	for _, s := range sources(t) {
		for sel, selection := range s.info.Selections {
			if selection.Kind() != types.FieldVal || !isField(selection, "net/http", "Request", "Host") {
				continue
			}
			if hostReaders[s.Short()+"/"+s.file(sel.Pos())] == "" {
				t.Errorf("%s: Request.Host belongs to the zone middleware: no link and no decision comes from it", s.where(sel.Pos()))
			}
		}
	}
}

// mayCompareSubjects are the packages whose business the words in a subject are.
var mayCompareSubjects = []string{"internal/pki", "internal/issuance", "internal/lint", "internal/i18n"}

// TestSubjectIsNoAuthority: all terminals of an institution share one subject, so
// whoever compares subjects lets one terminal act for another (threat RS8). The
// certificate is the authority, by its hash.
func TestSubjectIsNoAuthority(t *testing.T) {
	for _, s := range sources(t) {
		if slices.Contains(mayCompareSubjects, s.Short()) {
			continue
		}
		for _, f := range s.files {
			ast.Inspect(f, func(n ast.Node) bool {
				for _, e := range compared(n) {
					if at, ok := s.mentionsSubject(e); ok {
						t.Errorf("%s: compares a subject: authority is the certificate itself", s.where(at))
					}
				}
				return true
			})
		}
	}
}

// comparing are functions whose arguments are compared.
var comparing = []string{"Equal", "EqualFold", "Compare", "ConstantTimeCompare", "Contains", "HasPrefix", "HasSuffix", "Index", "DeepEqual", "MatchString"}

// compared gives the expressions that a node compares with something.
func compared(n ast.Node) []ast.Expr {
	switch n := n.(type) {
	case *ast.BinaryExpr:
		if n.Op == token.EQL || n.Op == token.NEQ {
			return []ast.Expr{n.X, n.Y}
		}
	case *ast.SwitchStmt:
		if n.Tag != nil {
			return []ast.Expr{n.Tag}
		}
	case *ast.IndexExpr:
		return []ast.Expr{n.Index}
	case *ast.CallExpr:
		if sel, ok := n.Fun.(*ast.SelectorExpr); ok && slices.Contains(comparing, sel.Sel.Name) {
			return n.Args
		}
	}
	return nil
}

func (s *source) mentionsSubject(e ast.Expr) (token.Pos, bool) {
	var at token.Pos
	ast.Inspect(e, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok && s.isSubject(sel) {
			at = sel.Pos()
		}
		return !at.IsValid()
	})
	return at, at.IsValid()
}

func (s *source) isSubject(sel *ast.SelectorExpr) bool {
	selection, ok := s.info.Selections[sel]
	if !ok || selection.Kind() != types.FieldVal {
		return false
	}
	return isField(selection, "crypto/x509", "Certificate", "Subject", "RawSubject") ||
		isField(selection, "crypto/x509/pkix", "Name", "CommonName", "SerialNumber", "OrganizationalUnit", "Organization", "Names")
}

// isField says whether a selection takes one of these fields of pkg.typ.
func isField(selection *types.Selection, pkg, typ string, names ...string) bool {
	if !slices.Contains(names, selection.Obj().Name()) {
		return false
	}
	recv := selection.Recv()
	if p, ok := recv.Underlying().(*types.Pointer); ok {
		recv = p.Elem()
	}
	named, ok := types.Unalias(recv).(*types.Named)
	return ok && named.Obj().Name() == typ && named.Obj().Pkg() != nil && named.Obj().Pkg().Path() == pkg
}
