package ra

import (
	"strings"

	"golang.org/x/text/unicode/norm"

	"inkan/internal/pki"
	"inkan/internal/store"
)

// lookAlike are letters that a reader takes for another one, each with the one that
// stands for it (threat AP8). What NFKC makes equal (ﾆ and ニ, ① and 1) is not here.
var lookAlike = strings.NewReplacer(
	"口", "ロ", "囗", "ロ", "力", "カ", "二", "ニ", "八", "ハ", "工", "エ", "卜", "ト", "夕", "タ", "千", "チ", "才", "オ", "三", "ミ", "丿", "ノ",
	"へ", "ヘ", "べ", "ベ", "ぺ", "ペ", "り", "リ", "ァ", "ア", "ィ", "イ", "ゥ", "ウ", "ェ", "エ", "ォ", "オ",
	"ッ", "ツ", "ャ", "ヤ", "ュ", "ユ", "ョ", "ヨ", "ヮ", "ワ", "ヵ", "カ", "ヶ", "ケ",
	"一", "ー", "―", "ー", "—", "ー", "–", "ー", "‐", "ー", "‑", "ー", "-", "ー", "−", "ー", "─", "ー", "━", "ー", "_", "ー", "〜", "ー", "~", "ー",
	"o", "0", "〇", "0", "○", "0", "◯", "0", "l", "1", "i", "1", "|", "1", "!", "1", "丨", "1",
	"・", "", "･", "", ".", "", "·", "", " ", "", "　", "",
)

// skeleton is what a name looks like: two names with one skeleton are easily taken for
// each other. It is for comparing, never for showing.
func skeleton(name string) string {
	return lookAlike.Replace(strings.ToLower(norm.NFKC.String(name)))
}

// neighbours are the requests of an institution that are under way or whose certificate
// is in force.
func neighbours(tx *store.Tx, h pki.Holder) ([]pki.Request, error) {
	all, err := tx.Requests(store.RequestFilter{HolderCode: h.Code, Limit: 1000, States: []pki.RequestState{pki.Received, pki.Reviewing,
		pki.Returned, pki.Approved, pki.Generating, pki.Issuing, pki.Issued, pki.Failed}})
	if err != nil {
		return nil, err
	}
	var out []pki.Request
	for _, r := range all {
		if r.Application.Holder != h {
			continue
		}
		living, err := living(tx, r)
		if err != nil {
			return nil, err
		}
		if living {
			out = append(out, r)
		}
	}
	return out, nil
}

func living(tx *store.Tx, r pki.Request) (bool, error) {
	if r.State != pki.Issued {
		return true, nil
	}
	c, err := tx.Certificate(r.Serial)
	if err != nil {
		return false, err
	}
	state := c.State(tx.Now)
	return state.Usable() || state == pki.Suspended || state == pki.NotBegun, nil
}

// alike picks the neighbours whose terminal looks like a name.
func alike(neighbours []pki.Request, terminal string) []pki.Request {
	var out []pki.Request
	for _, r := range neighbours {
		if skeleton(r.Application.TerminalName) == skeleton(terminal) {
			out = append(out, r)
		}
	}
	return out
}

// noteAlike tells the operators which requests look like a new one.
func noteAlike(tx *store.Tx, r *pki.Request) error {
	near, err := neighbours(tx, r.Application.Holder)
	if err != nil {
		return err
	}
	var ids []string
	for _, other := range alike(near, r.Application.TerminalName) {
		ids = append(ids, other.ID)
	}
	r.Alike = strings.Join(ids, " ")
	return nil
}
