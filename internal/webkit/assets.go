package webkit

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"strings"
)

//go:embed assets
var assetFiles embed.FS

// AssetPath is where static files are served.
const AssetPath = "/assets/"

// Assets are the static files under names that hold their content's hash: a browser
// may keep them for ever, and a new release is seen at once.
type Assets struct {
	urls  map[string]string // inkan.css → /assets/inkan.0123456789ab.css
	files map[string]asset  // by URL
}

type asset struct {
	body        []byte
	contentType string
}

var assetTypes = map[string]string{".css": "text/css; charset=utf-8", ".svg": "image/svg+xml", ".png": "image/png", ".js": "text/javascript; charset=utf-8"}

// LoadAssets reads the embedded static files.
func LoadAssets() (*Assets, error) {
	a := &Assets{urls: map[string]string{}, files: map[string]asset{}}
	names, err := fs.Glob(assetFiles, "assets/*")
	if err != nil {
		return nil, fmt.Errorf("list assets: %w", err)
	}
	for _, name := range names {
		body, err := assetFiles.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("read asset: %w", err)
		}
		ext := path.Ext(name)
		if assetTypes[ext] == "" {
			return nil, fmt.Errorf("read asset %s: no type known for %s", name, ext)
		}
		base := path.Base(name)
		sum := sha256.Sum256(body)
		url := AssetPath + strings.TrimSuffix(base, ext) + "." + hex.EncodeToString(sum[:6]) + ext
		a.urls[base] = url
		a.files[url] = asset{body, assetTypes[ext]}
	}
	return a, nil
}

// URL gives the address of a static file by its own name.
func (a *Assets) URL(name string) (string, error) {
	url, ok := a.urls[name]
	if !ok {
		return "", fmt.Errorf("asset %s: no such file", name)
	}
	return url, nil
}

// Serve answers GET AssetPath.
func (a *Assets) Serve(w http.ResponseWriter, r *http.Request) error {
	file, ok := a.files[r.URL.Path]
	if !ok {
		return NotFound(w, r)
	}
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	w.Header().Set("Content-Type", file.contentType)
	_, _ = w.Write(file.body)
	return nil
}
