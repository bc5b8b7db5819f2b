package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"
)

// An image is a kernel unpacked in the cache.
type image struct {
	kernel
	release string // as uname -r says it
	vmlinuz string // path of the bootable image
	modules string // directory lib/modules/RELEASE

	userland string // directory with the guest's programs and their libraries; empty: this machine's own are its
}

// fresh is how long a kernel in the cache is used without asking the archive for a newer one.
const fresh = 24 * time.Hour

// fetch gives every wanted kernel, from the cache or from the archive. Without the archive a kernel in the cache serves, however old.
func fetch(ctx context.Context, wanted []kernel, mirror string) ([]image, error) {
	base, err := os.UserCacheDir()
	if err != nil {
		return nil, err
	}
	base = filepath.Join(base, "midhop", "kernels")
	unlock, err := lock(base)
	if err != nil {
		return nil, err
	}
	defer unlock()

	stale := func(dir string) (old, stale bool) {
		info, err := os.Stat(filepath.Join(dir, "current"))
		return err == nil, err != nil || time.Since(info.ModTime()) > fresh
	}
	suites := map[*machine][]string{} // of what is stale
	for _, k := range wanted {
		if _, stale := stale(filepath.Join(base, k.name)); stale {
			suites[k.on] = append(suites[k.on], k.suites...)
		}
		if _, stale := stale(filepath.Join(base, k.on.userland())); stale && !k.on.native {
			suites[k.on] = append(suites[k.on], k.on.suite)
		}
	}
	var problem error // not yet fatal: what was downloaded may suffice, and so may the cache
	for on, names := range suites {
		slices.Sort(names)
		names = slices.Compact(names)
		say("reading the package index of %s for %s", strings.Join(names, " "), on.debian)
		from, err := findArchives(mirror)
		if err == nil {
			err = on.index(base).refresh(ctx, from, names)
		}
		problem = errors.Join(problem, err)
	}
	// renew has something brought up to date in its place in the cache, where it is stale.
	renew := func(name string, update func(dir string) error) error {
		dir := filepath.Join(base, name)
		old, stale := stale(dir)
		if !stale {
			return nil
		}
		if err := update(dir); err != nil {
			if err = errors.Join(problem, err); !old {
				return fmt.Errorf("%s: %w", name, err)
			}
			say("%s: what is in the cache serves, as the archive does not: %v", name, err)
		}
		return nil
	}
	var images []image
	for _, k := range wanted {
		index := k.on.index(base)
		if err := renew(k.name, func(dir string) error { return update(ctx, index, k, dir) }); err != nil {
			return nil, err
		}
		found, err := open(k, filepath.Join(base, k.name))
		if err != nil {
			return nil, err
		}
		if !k.on.native {
			if err := renew(k.on.userland(), func(dir string) error { return updateUserland(ctx, index, dir) }); err != nil {
				return nil, err
			}
			found.userland = filepath.Join(base, k.on.userland())
		}
		say("%s: %s", k.name, found.release)
		images = append(images, found)
	}
	return images, nil
}

// lock keeps two runs from unpacking into the same cache at once.
func lock(dir string) (func(), error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return func() { f.Close() }, nil
}

// A debian is one binary package of the index.
type debian struct{ name, version, depends string }

// update downloads the newest package of the series and unpacks it beside the old one, which is then removed.
func update(ctx context.Context, index apt, k kernel, dir string) error {
	found, err := newestOf(ctx, index, k.on.images, k.series)
	if err != nil {
		return err
	}
	release := k.on.images.FindStringSubmatch(found.name)[1]
	current := filepath.Join(dir, "current")
	id := release + "_" + strings.ReplaceAll(found.version, ":", "_")
	if old, err := os.ReadFile(current); err == nil && string(old) == id {
		return os.Chtimes(current, time.Now(), time.Now())
	}

	// Since 7.2 the image package is a shell; kernel, modules and the lists of modules are in packages named after the release. Of older
	// ones the archive drops some before it drops the image; findImage says so where one was needed.
	packages := []string{found.name}
	for _, d := range strings.Split(found.depends, ",") {
		name, _, _ := strings.Cut(strings.TrimSpace(d), " ")
		if !strings.HasSuffix(name, "-"+release) {
			continue
		}
		// Of a package that others only depend on apt-cache shows nothing, and does not fail.
		shown, err := index.output(ctx, "", "apt-cache", "show", name+"="+found.version)
		if err != nil || !bytes.Contains(shown, []byte("\nVersion: "+found.version+"\n")) {
			say("%s: the archive has no %s", k.name, name)
			continue
		}
		packages = append(packages, name)
	}
	say("%s: downloading %s %s", k.name, strings.Join(packages, " "), found.version)
	work, err := os.MkdirTemp(filepath.Dir(dir), "unpack-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	if err := os.Chmod(work, 0o755); err != nil {
		return err
	}
	for i, name := range packages {
		packages[i] = name + "=" + found.version
	}
	if _, err := index.output(ctx, work, "apt-get", append([]string{"-q", "download"}, packages...)...); err != nil {
		return err
	}
	if err := unpackAll(ctx, work, filepath.Join(work, "root")); err != nil {
		return err
	}
	if _, err := findImage(k, filepath.Join(work, "root")); err != nil {
		return err
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(work, "root"), filepath.Join(dir, id)); err != nil {
		return err
	}
	return os.WriteFile(current, []byte(id), 0o644)
}

// unpackAll unpacks the packages that lie in a directory.
func unpackAll(ctx context.Context, dir, to string) error {
	debs, _ := filepath.Glob(filepath.Join(dir, "*.deb"))
	for _, deb := range debs {
		if _, err := output(ctx, dir, "dpkg-deb", "-x", deb, to); err != nil {
			return err
		}
	}
	return nil
}

var threeNumbers = regexp.MustCompile(`-\d+\.\d+\.\d+`)

// newestOf gives the newest package with a name of a kind whose version is of a series (major.minor), or of any.
func newestOf(ctx context.Context, index apt, kind *regexp.Regexp, series string) (debian, error) {
	out, err := index.output(ctx, "", "apt-cache", "search", "--names-only", "^linux-.*-cloud-"+index.arch+"$")
	if err != nil {
		return debian{}, err
	}
	var names []string
	for line := range strings.Lines(string(out)) {
		if name, _, _ := strings.Cut(line, " "); kind.MatchString(name) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return debian{}, errors.New("no cloud kernel in the package index")
	}
	out, err = index.output(ctx, "", "apt-cache", append([]string{"show"}, names...)...)
	if err != nil {
		return debian{}, err
	}
	var best debian
	for stanza := range bytes.SplitSeq(out, []byte("\n\n")) {
		var p debian
		for line := range strings.Lines(string(stanza)) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
			switch key {
			case "Package":
				p.name = value
			case "Version":
				p.version = value
			case "Depends":
				p.depends = value
			}
		}
		if p.name == "" || series != "" && !strings.HasPrefix(p.version, series+".") {
			continue
		}
		// Meta packages have two numbers, and so have release candidates.
		if !threeNumbers.MatchString(p.name) && !strings.Contains(p.version, "~rc") {
			continue
		}
		if best.name == "" || exec.CommandContext(ctx, "dpkg", "--compare-versions", p.version, "gt", best.version).Run() == nil {
			best = p
		}
	}
	if best.name == "" {
		return best, fmt.Errorf("no cloud kernel of series %s in the package index", series)
	}
	return best, nil
}

// open gives the kernel that the cache's directory holds.
func open(k kernel, dir string) (image, error) {
	id, err := os.ReadFile(filepath.Join(dir, "current"))
	if err != nil {
		return image{}, err
	}
	return findImage(k, filepath.Join(dir, string(id)))
}

// findImage looks for the kernel and its modules where the packages of all years put them.
func findImage(k kernel, root string) (image, error) {
	for _, lib := range []string{"lib", "usr/lib"} {
		dirs, _ := filepath.Glob(filepath.Join(root, lib, "modules", "*"))
		for _, modules := range dirs {
			found := image{kernel: k, release: filepath.Base(modules), modules: modules}
			if _, err := os.Stat(filepath.Join(modules, "modules.builtin")); err != nil {
				continue
			}
			for _, path := range []string{filepath.Join(root, "boot", "vmlinuz-"+found.release), filepath.Join(modules, "vmlinuz")} {
				if _, err := os.Stat(path); err == nil {
					found.vmlinuz = path
					return found, nil
				}
			}
		}
	}
	return image{}, fmt.Errorf("no kernel with its modules under %s", root)
}
