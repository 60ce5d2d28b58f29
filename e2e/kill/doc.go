// Package kill owns the proof that the program loses nothing and doubles nothing when
// it is killed: at every point that the code names (the crash matrix), and at random
// moments for as long as one likes (TestRandomKills).
//
// A live instance runs on each engine, edge and signer as processes. Clients do what
// clients do, and repeat it after a death as clients would; then the invariants are
// checked from outside: in the database, the signer's journal, the published lists
// and answers, and every file. It does not own what the steps themselves do when
// nothing dies (e2e), nor failures without a death (the tests of ca and signer).
package kill
