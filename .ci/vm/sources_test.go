package main

import (
	"strings"
	"testing"
)

func TestSources(t *testing.T) {
	for name, test := range map[string]struct {
		deb822 bool
		text   string
		want   archives
	}{
		"one line per archive": {false, `
# deb http://old.example/debian bookworm main
deb [arch=amd64 signed-by=/etc/keys.gpg] http://mirror.example/debian/ bookworm main contrib
deb-src http://source.example/debian bookworm main
deb http://mirror.example/debian-security bookworm-security main
`, archives{"http://mirror.example/debian/", "http://mirror.example/debian-security", "/etc/keys.gpg"}},
		"stanzas": {true, `Types: deb deb-src
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Enabled: no
Types: deb
URIs: http://off.example/debian-security
Suites: bookworm-security
Components: main

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
`, archives{"http://mirror.example/debian", "http://mirror.example/debian-security", debianKeys}},
		"others only": {false, `
deb https://packages.example/apt cloud-sdk-bookworm main
deb https://packages.example/linux/raspbian bookworm stable
deb https://packages.example/linux/debian bookworm stable
deb https://packages.example/node bookworm main
`, archives{keyring: debianKeys}},
	} {
		got := archives{keyring: debianKeys}
		for _, s := range parseSources(strings.NewReader(test.text), test.deb822) {
			got.add(s)
		}
		if got != test.want {
			t.Errorf("%s: got %+v, want %+v", name, got, test.want)
		}
	}
}
