package main

import (
	"bufio"
	"errors"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// archives are the two places that Debian kernels come from, with the keys that sign them.
type archives struct {
	main, security string // base URLs
	keyring        string
}

// debianKeys is where the package debian-archive-keyring puts the keys of all suites.
const debianKeys = "/usr/share/keyrings/debian-archive-keyring.gpg"

// findArchives reads this machine's own apt sources, so that a mirror chosen for the machine serves the guests too.
func findArchives(mirror string) (archives, error) {
	found := archives{main: mirror, keyring: debianKeys}
	if mirror == "" {
		files, _ := filepath.Glob("/etc/apt/sources.list.d/*")
		for _, name := range append([]string{"/etc/apt/sources.list"}, files...) {
			f, err := os.Open(name)
			if err != nil {
				continue
			}
			for _, s := range parseSources(f, filepath.Ext(name) == ".sources") {
				found.add(s)
			}
			f.Close()
		}
	}
	if found.main == "" {
		return found, errors.New("this machine's apt sources name no Debian archive: give one with -mirror URL")
	}
	if found.security == "" {
		found.security = strings.TrimSuffix(found.main, "/") + "-security"
	}
	return found, nil
}

// A source is one archive with one suite, as an apt source file names it.
type source struct {
	uri, suite, signedBy string
	components           []string
}

func (a *archives) add(s source) {
	release, pocket, _ := strings.Cut(s.suite, "-")
	switch release {
	case "bullseye", "bookworm", "trixie", "forky", "sid", "oldoldstable", "oldstable", "stable", "testing", "unstable":
	default:
		return
	}
	// Others use the release names too; Debian's own archives are those with a component main and these last words, whatever the host.
	last := strings.TrimSuffix(path.Base(s.uri), ".list") // of a mirror+file: source
	switch {
	case !slices.Contains(s.components, "main"):
		return
	case pocket == "security" && a.security == "" && last == "debian-security":
		a.security = s.uri
	case pocket != "security" && a.main == "" && last == "debian":
		a.main = s.uri
	default:
		return
	}
	if filepath.IsAbs(s.signedBy) {
		a.keyring = s.signedBy
	}
}

// parseSources reads both formats of sources.list(5): one line per archive, and the deb822 stanzas of *.sources files.
func parseSources(r io.Reader, deb822 bool) []source {
	var found []source
	field := map[string]string{}
	flush := func() {
		if strings.Contains(" "+field["types"]+" ", " deb ") && field["enabled"] != "no" {
			for _, uri := range strings.Fields(field["uris"]) {
				for _, suite := range strings.Fields(field["suites"]) {
					found = append(found, source{uri, suite, field["signed-by"], strings.Fields(field["components"])})
				}
			}
		}
		clear(field)
	}
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		line := lines.Text()
		if strings.HasPrefix(line, "#") {
			continue
		}
		if deb822 {
			if strings.TrimSpace(line) == "" {
				flush()
			} else if key, value, ok := strings.Cut(line, ":"); ok && !strings.HasPrefix(line, " ") {
				field[strings.ToLower(key)] = strings.TrimSpace(value)
			}
			continue
		}
		words := strings.Fields(line)
		if len(words) < 3 || words[0] != "deb" {
			continue
		}
		words = words[1:]
		signedBy := ""
		if strings.HasPrefix(words[0], "[") {
			for len(words) > 0 {
				word := words[0]
				words = words[1:]
				if key, ok := strings.CutPrefix(strings.Trim(word, "[]"), "signed-by="); ok {
					signedBy = key
				}
				if strings.HasSuffix(word, "]") {
					break
				}
			}
		}
		if len(words) >= 2 {
			found = append(found, source{words[0], words[1], signedBy, words[2:]})
		}
	}
	flush()
	return found
}
