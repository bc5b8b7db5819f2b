package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// TestKrew writes the manifest of a release and holds it to what krew checks: docs of krew, "Plugin manifest".
func TestKrew(t *testing.T) {
	dir := t.TempDir()
	sums := make(map[string]string)
	archive := func(name string, files ...string) {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		a := tar.NewWriter(z)
		for _, f := range files {
			if err := a.WriteHeader(&tar.Header{Name: f, Mode: 0o755, Size: int64(len(name))}); err != nil {
				t.Fatal(err)
			}
			if _, err := a.Write([]byte(name)); err != nil {
				t.Fatal(err)
			}
		}
		a.Close()
		z.Close()
		b.Write(make([]byte, 512)) // what follows belongs to the sum too
		sum := sha256.Sum256(b.Bytes())
		sums[name] = hex.EncodeToString(sum[:])
		if err := os.WriteFile(filepath.Join(dir, name), b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range krewPlatforms {
		program := pluginName
		if p.os == "windows" {
			program += ".exe"
		}
		archive(krewArchive("v1.2.3", p.os, p.arch), program, "./LICENSE")
	}
	var b bytes.Buffer
	if err := writeKrew(&b, dir, "v1.2.3"); err != nil {
		t.Fatal(err)
	}
	var m struct {
		APIVersion, Kind string
		Metadata         struct{ Name string }
		Spec             struct {
			Version, Homepage, ShortDescription, Description, Caveats string
			Platforms                                                 []struct {
				Selector         struct{ MatchLabels map[string]string }
				URI, SHA256, Bin string
				Files            []struct{ From, To string }
			}
		}
	}
	if err := yaml.UnmarshalStrict(b.Bytes(), &m); err != nil {
		t.Fatal(err)
	}
	s := m.Spec
	if m.APIVersion != "krew.googlecontainertools.github.com/v1alpha2" || m.Kind != "Plugin" || "kubectl-"+m.Metadata.Name != pluginName || s.Version != "v1.2.3" {
		t.Errorf("%+v", m)
	}
	if len(s.ShortDescription) > 50 || strings.HasSuffix(s.ShortDescription, ".") {
		t.Errorf("the short description is to be of 50 characters, without a full stop: %q", s.ShortDescription)
	}
	for _, text := range []string{s.Description, s.Caveats} {
		for line := range strings.Lines(text) {
			if len(line) > 81 {
				t.Errorf("too long for a terminal: %s", line)
			}
		}
	}
	if len(s.Platforms) != len(krewPlatforms) {
		t.Errorf("%d platforms", len(s.Platforms))
	}
	for i, p := range s.Platforms {
		name := path.Base(p.URI)
		if p.SHA256 != sums[name] || !strings.HasSuffix(p.URI, "/v1.2.3/"+name) {
			t.Errorf("%s has the sum %s, want %s", p.URI, p.SHA256, sums[name])
		}
		if p.Selector.MatchLabels["os"] != krewPlatforms[i].os || p.Selector.MatchLabels["arch"] != krewPlatforms[i].arch || !isPlugin(p.Bin) || p.Files[0].From != p.Bin {
			t.Errorf("%+v", p)
		}
	}
	archive(krewArchive("v1.2.3", "linux", "arm64"), pluginName)
	if err := writeKrew(&b, dir, "v1.2.3"); err == nil || !strings.Contains(err.Error(), "LICENSE") {
		t.Errorf("an archive without the license: %v", err)
	}
	if err := writeKrew(&b, dir, "v9"); err == nil || !strings.Contains(err.Error(), "make release") {
		t.Errorf("without archives: %v", err)
	}
}
