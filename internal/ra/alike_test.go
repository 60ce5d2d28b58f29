package ra

import "testing"

// TestThreatAP8Skeleton: names that a reader takes for each other have one skeleton, and
// names of different terminals have not.
func TestThreatAP8Skeleton(t *testing.T) {
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{"カルテ", "力ルテ", true}, {"カルテ", "ｶﾙﾃ", true}, {"ロビー", "口ビー", true}, {"ロビー", "ロビ一", true}, {"ロビー", "ロビ―", true}, {"ロビー", "ロビ—", true},
		{"ロビー", "ロビ-", true}, {"ロビー", "ロビ－", true}, {"0番", "O番", true}, {"0番", "〇番", true}, {"0番", "ｏ番", true}, {"ニ階", "二階", true}, {"ﾆ階", "二階", true},
		{"受付1号機", "受付１号機", true}, {"受付1号機", "受付 1 号機", true}, {"受付1号機", "受付l号機", true}, {"受付1号機", "受付I号機", true}, {"受付1号機", "受付①号機", true},
		{"PC-A", "ｐｃ-ａ", true}, {"ハンド", "八ンド", true}, {"エコー", "工コー", true}, {"タオル", "夕オル", true}, {"ヘルプ", "へルプ", true}, {"リハビリ", "りハビり", true},
		{"トイレ", "卜イレ", true}, {"チェック", "千エツク", true}, {"オペ室", "才ペ室", true}, {"ガラス", "ｶﾞﾗｽ", true}, {"受付・会計", "受付会計", true}, {"㈱1", "(株)1", true},
		{"受付1号機", "受付2号機", false}, {"受付1号機", "会計1号機", false}, {"カルテ", "ガルテ", false}, {"PC-A", "PC-B", false}, {"受付10号機", "受付1号機", false}, {"", "受付", false},
	} {
		if same := skeleton(c.a) == skeleton(c.b); same != c.same {
			t.Errorf("%q and %q look alike: %t (%q, %q)", c.a, c.b, same, skeleton(c.a), skeleton(c.b))
		}
	}
}
