package app

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"

	"inkan/internal/pki"
	"inkan/internal/store"
)

// loadedConfig is the body of an audit record config.loaded: what this node runs with,
// and what is different from its last start (threat CO11). Passwords and PINs are left
// out, and the digest is of what is left: one over a weak password would give it away.
type loadedConfig struct {
	Digest  string               `json:"digest"`
	Values  map[string]string    `json:"values"`
	Changed map[string][2]string `json:"changed,omitempty"` // key → before, now; "" where there was none
}

// recordConfig writes the record, once at every start of serve. Nodes have settings of
// their own, so each is compared with itself.
func (i *instance) recordConfig(ctx context.Context) error {
	node, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("find name of this node: %w", err)
	}
	values, err := i.config.values()
	if err != nil {
		return err
	}
	return i.db.Update(ctx, func(tx *store.Tx) error {
		subject := "config:" + node
		now := loadedConfig{Digest: digestOf(values), Values: values}
		last, err := tx.LastAuditAbout(subject)
		if err == nil && !last.Erased {
			var before loadedConfig
			err = json.Unmarshal(last.Body, &before)
			now.Changed = changes(before.Values, values)
		}
		if err != nil && !errors.Is(err, pki.ErrNotFound) {
			return fmt.Errorf("read last configuration: %w", err)
		}
		_, _, err = tx.Audit(pki.System("serve"), "config.loaded", subject, now)
		return err
	})
}

// values are all settings by their key, redacted.
func (c Config) values() (map[string]string, error) {
	var text bytes.Buffer
	err := toml.NewEncoder(&text).Encode(c)
	if err != nil {
		return nil, fmt.Errorf("encode configuration: %w", err)
	}
	var tree map[string]any
	_, err = toml.Decode(text.String(), &tree)
	if err != nil {
		return nil, fmt.Errorf("decode configuration: %w", err)
	}
	out := map[string]string{}
	flattenInto(out, "", tree)
	for key, value := range out {
		if key == "database.dsn" || strings.HasPrefix(key, "signer.keys.") {
			out[key] = redactURI(value)
		}
	}
	return out, nil
}

func flattenInto(out map[string]string, prefix string, tree map[string]any) {
	for key, value := range tree {
		inner, isTree := value.(map[string]any)
		if isTree {
			flattenInto(out, prefix+key+".", inner)
			continue
		}
		out[prefix+key] = fmt.Sprint(value)
	}
}

func digestOf(values map[string]string) string {
	h := sha256.New()
	for _, key := range slices.Sorted(maps.Keys(values)) {
		_, _ = fmt.Fprintf(h, "%q=%q\n", key, values[key])
	}
	return hex.EncodeToString(h.Sum(nil))
}

func changes(before, now map[string]string) map[string][2]string {
	out := map[string][2]string{}
	for key, value := range now {
		if before[key] != value {
			out[key] = [2]string{before[key], value}
		}
	}
	for key, value := range before {
		_, stays := now[key]
		if !stays {
			out[key] = [2]string{value, ""}
		}
	}
	return out
}
