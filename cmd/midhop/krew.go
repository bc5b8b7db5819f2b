package main

import (
	"archive/tar"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// krewHome is where releases are, as krew's users fetch them.
const krewHome = "https://github.com/midhop/midhop"

// krewPlatforms are those that a release has archives for.
var krewPlatforms = []struct{ os, arch string }{
	{"darwin", "amd64"}, {"darwin", "arm64"}, {"linux", "amd64"}, {"linux", "arm64"}, {"windows", "amd64"},
}

// writeKrew writes the manifest by which krew, kubectl's plugin manager, installs kubectl midhop. The archives of the release
// are in dir, under the names that `make release` gives them: what the manifest says of them is read off them.
func writeKrew(w io.Writer, dir, version string) error {
	var b strings.Builder
	fmt.Fprintf(&b, `apiVersion: krew.googlecontainertools.github.com/v1alpha2
kind: Plugin
metadata:
  name: midhop
spec:
  version: %q
  homepage: %s
  shortDescription: Name the node that broke connections
  description: |
    Names the Kubernetes node in the middle of connections that hang, says what
    happened to it with evidence for and against, when each connection gives up,
    who the clients were, and what to do.

    kubectl midhop shows the cluster through its hub; where none is installed,
    kubectl midhop probe NODE looks at a node with nothing left behind.
  caveats: |
    The hub and the agents are installed apart: midhop deploy prints their
    manifests. Reading a hub takes what the Role midhop-reader says.
  platforms:
`, krewVersion(version), krewHome)
	for _, p := range krewPlatforms {
		name := krewArchive(version, p.os, p.arch)
		program := pluginName
		if p.os == "windows" {
			program += ".exe"
		}
		sum, err := krewSum(filepath.Join(dir, name), program)
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, `    - selector:
        matchLabels:
          os: %s
          arch: %s
      uri: %s/releases/download/%s/%s
      sha256: %s
      bin: %s
      files:
        - from: %s
          to: .
        - from: LICENSE
          to: .
`, p.os, p.arch, krewHome, version, name, sum, program, program)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// krewVersion is a version as krew wants it: semantic, with a v before it.
func krewVersion(version string) string { return "v" + strings.TrimPrefix(version, "v") }

func krewArchive(version, goos, arch string) string {
	return fmt.Sprintf("kubectl-midhop_%s_%s_%s.tar.gz", version, goos, arch)
}

// krewSum returns the sum of an archive that holds the program and the license.
func krewSum(path, program string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", usagef("--krew: %w; make release makes the archives", err)
	}
	defer f.Close()
	sum := sha256.New()
	unpacked, err := gzip.NewReader(io.TeeReader(f, sum))
	if err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	var names []string
	for in := tar.NewReader(unpacked); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return "", fmt.Errorf("%s: %w", path, err)
		}
		names = append(names, strings.TrimPrefix(h.Name, "./"))
	}
	for _, want := range []string{program, "LICENSE"} {
		if !slices.Contains(names, want) {
			return "", fmt.Errorf("%s: no %s in it", path, want)
		}
	}
	if _, err := io.Copy(sum, f); err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}
