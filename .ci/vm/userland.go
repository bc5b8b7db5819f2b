package main

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// A userland is where a guest's programs come from: this machine's own file system, or packages of another machine unpacked.
type userland struct {
	root    string // empty: this machine's
	triplet string // directory of its libraries
}

func (k image) programs() userland { return userland{k.userland, k.on.triplet} }

// find gives the path, without the root, of a program: of this machine also one in the path, and where root's programs are,
// which an ordinary user's path lacks. Of several that serve under one name (update-alternatives(1), which packages that are
// only unpacked have not run) the one by nftables is taken, as Debian does.
func (u userland) find(name string) (string, error) {
	dirs := []string{"/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin"}
	if u.root == "" {
		dirs = append(filepath.SplitList(os.Getenv("PATH")), dirs...)
	}
	tables, rest, _ := strings.Cut(name, "-")
	for _, name := range []string{name, strings.TrimSuffix(tables+"-nft-"+rest, "-")} {
		for _, dir := range dirs {
			if _, err := exec.LookPath(filepath.Join(u.root, dir, name)); err == nil {
				return filepath.Join(dir, name), nil
			}
		}
	}
	return "", fmt.Errorf("%s: %w", name, exec.ErrNotFound)
}

// libraries gives the paths, without the root, of what the dynamic linker would load for a program, and of the linker.
func (u userland) libraries(program string) ([]string, error) {
	var found []string
	seen := map[string]bool{}
	var add func(path string) error
	add = func(path string) error {
		file, err := elf.Open(path)
		if err != nil {
			return nil // a script
		}
		defer file.Close()
		for _, p := range file.Progs {
			if p.Type == elf.PT_INTERP {
				linker, err := io.ReadAll(p.Open())
				if err != nil {
					return err
				}
				name := strings.TrimRight(string(linker), "\x00")
				if u.root != "" {
					name = merged(name) // there are no links between the two
				}
				found = append(found, name)
			}
		}
		needed, err := file.ImportedLibraries()
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		for _, name := range needed {
			if seen[name] {
				continue
			}
			seen[name] = true
			library, err := u.library(name)
			if err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
			found = append(found, library)
			if err := add(filepath.Join(u.root, library)); err != nil {
				return err
			}
		}
		return nil
	}
	return found, add(program)
}

// library looks where Debian keeps libraries.
func (u userland) library(name string) (string, error) {
	for _, dir := range []string{"/usr/lib/" + u.triplet, "/lib/" + u.triplet, "/usr/lib", "/lib", "/usr/local/lib"} {
		if _, err := os.Stat(filepath.Join(u.root, dir, name)); err == nil {
			return filepath.Join(dir, name), nil
		}
	}
	return "", fmt.Errorf("no library %s for %s", name, u.triplet)
}

func (m *machine) userland() string { return "userland-" + m.debian }

func (m *machine) index(base string) apt {
	if m.native {
		return apt{filepath.Join(base, "index"), m.debian}
	}
	return apt{filepath.Join(base, "index-"+m.debian), m.debian}
}

// updateUserland unpacks the packages of guestPrograms, with all that they depend on, in place of what is there.
func updateUserland(ctx context.Context, index apt, dir string) error {
	say("%s: downloading the programs of %s", filepath.Base(dir), index.arch)
	work, err := os.MkdirTemp(filepath.Dir(dir), "unpack-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	debs, root := filepath.Join(work, "debs"), filepath.Join(work, "root")
	if err := errors.Join(os.Chmod(work, 0o755), os.MkdirAll(filepath.Join(debs, "partial"), 0o755)); err != nil {
		return err
	}
	args := []string{"-o", "Dir::Cache::archives=" + debs, "-q", "install", "-y", "--download-only", "--no-install-recommends"}
	if _, err := index.output(ctx, "", "apt-get", append(args, userlandPackages...)...); err != nil {
		return err
	}
	if err := unpackAll(ctx, debs, root); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(root, "current"), nil, 0o644); err != nil {
		return err
	}
	return errors.Join(os.RemoveAll(dir), os.Rename(root, dir))
}

// userlandPackages hold guestPrograms.
var userlandPackages = strings.Fields("busybox-static iproute2 nftables conntrack iptables iputils-ping ipvsadm ipset util-linux libcap2-bin")
