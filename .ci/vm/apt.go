package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// apt runs apt's programs on a package index of its own, beside the machine's: nothing of it is ever installed.
type apt struct {
	dir  string // holds the index and the source list
	arch string // of the packages
}

// refresh downloads the index of the suites. A suite that is gone is said and left out.
func (a apt) refresh(ctx context.Context, from archives, suites []string) error {
	for _, d := range []string{"state/lists/partial", "cache/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(a.dir, d), 0o755); err != nil {
			return err
		}
	}
	var b strings.Builder
	for _, s := range suites {
		uri := from.main
		if strings.HasSuffix(s, "-security") {
			uri = from.security
		}
		fmt.Fprintf(&b, "deb [arch=%s signed-by=%s] %s %s main\n", a.arch, from.keyring, uri, s)
	}
	if err := os.WriteFile(filepath.Join(a.dir, "sources.list"), []byte(b.String()), 0o644); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(a.dir, "status"), nil, 0o644); err != nil {
		return err
	}
	_, err := a.output(ctx, "", "apt-get", "-q", "update")
	return err
}

func (a apt) output(ctx context.Context, dir, program string, args ...string) ([]byte, error) {
	options := []string{
		"-o", "Dir::Etc::sourcelist=" + filepath.Join(a.dir, "sources.list"),
		"-o", "Dir::Etc::sourceparts=/dev/null",
		"-o", "Dir::State=" + filepath.Join(a.dir, "state"),
		"-o", "Dir::State::status=" + filepath.Join(a.dir, "status"),
		"-o", "Dir::Cache=" + filepath.Join(a.dir, "cache"),
		"-o", "APT::Architecture=" + a.arch, "-o", "APT::Architectures=" + a.arch,
		"-o", "APT::Sandbox::User=", "-o", "Acquire::Languages=none", "-o", "Acquire::Retries=3",
		"-o", "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false",
		"-o", "Acquire::Check-Valid-Until=false", // a suite that is no longer updated still serves its last kernel
	}
	return output(ctx, dir, program, append(options, args...)...)
}

// output runs a program and gives what it printed; when it fails the error carries its last words.
func output(ctx context.Context, dir, program string, args ...string) ([]byte, error) {
	var stderr strings.Builder
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir, cmd.Stderr = dir, &stderr
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	out, err := cmd.Output()
	if err != nil {
		return out, fmt.Errorf("%s: %w: %s", program, err, strings.TrimSpace(stderr.String()))
	}
	return out, nil
}

// tools are the host's programs that the harness itself runs, with the Debian package of each.
var tools = [][2]string{
	{"qemu-system-x86_64", "qemu-system-x86"}, {"qemu-system-aarch64", "qemu-system-arm"}, {"busybox", "busybox-static"}, {"xz", "xz-utils"},
	{"ip", "iproute2"}, {"ipvsadm", "ipvsadm"}, {"nft", "nftables"}, {"conntrack", "conntrack"}, {"iptables", "iptables"}, {"ping", "iputils-ping"},
}

// installTools installs what is missing of tools.
func installTools(ctx context.Context) error {
	var missing []string
	for _, t := range tools {
		if _, err := (userland{}).find(t[0]); err != nil {
			missing = append(missing, t[1])
		}
	}
	if len(missing) == 0 {
		return nil
	}
	say("installing %s", strings.Join(missing, " "))
	if os.Geteuid() != 0 {
		return fmt.Errorf("missing programs, and no right to install them: apt-get install %s", strings.Join(missing, " "))
	}
	if _, err := output(ctx, "", "apt-get", "-q", "update"); err != nil {
		return err
	}
	_, err := output(ctx, "", "apt-get", append([]string{"install", "-y", "-q", "--no-install-recommends"}, missing...)...)
	return err
}
