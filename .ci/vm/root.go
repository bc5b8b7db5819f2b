package main

import (
	"bufio"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

//go:embed init.sh
var initScript []byte

// A job is one program to run in the guest.
type job struct {
	name  string // what results call it: the package's directory, or the program's name
	path  string // the binary on this machine
	args  []string
	tests bool     // the output is that of go test's binaries
	only  []string // names of the tests that run; empty: all
	files string   // directory on this machine whose files the job finds in its working directory; empty: none
}

// guestPrograms go into every guest where this machine has them; what tools lists is always there.
var guestPrograms = []string{
	"ip", "ss", "tc", "nft", "conntrack", "ping", "ipvsadm", "ipset",
	"iptables", "iptables-save", "iptables-restore", "ip6tables", "ip6tables-save", "ip6tables-restore",
	"iptables-legacy", "iptables-legacy-save", "iptables-legacy-restore", "ip6tables-legacy", "setpriv", "capsh",
}

// writeRoot writes the guest's whole file system, and gives the modules that the kernel lacks.
func writeRoot(ctx context.Context, name string, k image, jobs []job) (missing []string, err error) {
	f, err := os.Create(name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := bufio.NewWriterSize(f, 1<<20)
	c := newCpio(w)

	// Links first, so that nothing is put beside them.
	for _, d := range []string{"bin", "sbin", "lib", "lib64"} {
		c.link("/"+d, "usr/"+d)
	}
	c.link("/var/run", "/run")
	for _, d := range []string{"/dev", "/proc", "/sys", "/tmp", "/run", "/root", "/etc"} {
		c.dir(d)
	}
	c.char("/dev/console", 5, 1)
	c.char("/dev/null", 1, 3)
	c.file("/etc/passwd", 0o644, []byte("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n"))
	c.file("/etc/group", 0o644, []byte("root:x:0:\nnogroup:x:65534:\n"))
	c.file("/etc/hosts", 0o644, []byte("127.0.0.1 localhost\n::1 localhost\n"))
	for _, name := range []string{"/etc/protocols", "/etc/services"} {
		if data, err := os.ReadFile(name); err == nil {
			c.file(name, 0o644, data)
		}
	}
	c.file("/init", 0o755, initScript)

	programs := k.programs()
	if err := addPrograms(c, programs); err != nil {
		return nil, err
	}
	modules, missing, err := loadOrder(ctx, k.modules, wantedModules)
	if err != nil {
		return nil, err
	}
	order := ""
	for _, m := range modules {
		c.file("/modules/"+m.name+".ko", 0o644, m.data)
		order += m.name + "\n"
	}
	c.file("/modules/order", 0o644, []byte(order))

	script := "export MIDHOP_VM=" + k.name + "\n"
	for i, j := range jobs {
		dir := path.Join("/repo", j.name)
		program := fmt.Sprintf("/jobs.d/%d/%s", i, filepath.Base(j.path))
		data, err := os.ReadFile(j.path)
		if err != nil {
			return nil, err
		}
		c.file(program, 0o755, data)
		if err := addLibraries(c, programs, j.path); err != nil {
			return nil, err
		}
		c.dir(dir)
		if err := addFiles(c, dir, j.files); err != nil {
			return nil, err
		}
		script += fmt.Sprintf("job %d %s %s", i, quote(dir), quote(program))
		for _, a := range j.args {
			script += " " + quote(a)
		}
		script += "\n"
	}
	c.file("/jobs", 0o644, []byte(script))
	return missing, errors.Join(c.close(), w.Flush())
}

// quote makes a shell word of any string.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

func addPrograms(c *cpio, u userland) error {
	for _, name := range guestPrograms {
		if found, err := u.find(name); err == nil {
			if err := addProgram(c, u, name, found); err != nil {
				return err
			}
		}
	}
	// iptables loads its matches and targets by name, so no program needs them by itself.
	plugins, _ := filepath.Glob(filepath.Join(u.root, "/usr/lib/*/xtables/*.so"))
	for _, name := range plugins {
		if err := addFile(c, name, strings.TrimPrefix(name, u.root)); err != nil {
			return err
		}
	}
	busybox, err := u.find("busybox")
	if err != nil {
		return err
	}
	c.link("/usr/bin/sh", "/usr/busybox/busybox")
	return addFile(c, filepath.Join(u.root, busybox), "/usr/busybox/busybox")
}

// addProgram adds a program under the name that it is called by; the file that its path leads to is there once.
func addProgram(c *cpio, u userland, name, path string) error {
	real, err := filepath.EvalSymlinks(filepath.Join(u.root, path))
	if err != nil {
		return err
	}
	to := merged(strings.TrimPrefix(real, u.root))
	if err := addFile(c, real, to); err != nil {
		return err
	}
	c.link(filepath.Join(merged(filepath.Dir(path)+"/"), name), to) // when both are the same this does nothing
	return addLibraries(c, u, real)
}

// addLibraries adds what a program needs to be started.
func addLibraries(c *cpio, u userland, program string) error {
	names, err := u.libraries(program)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := addFile(c, filepath.Join(u.root, name), merged(name)); err != nil {
			return err
		}
	}
	return nil
}

// merged puts /bin, /sbin and /lib* under /usr, where the guest's root has them.
func merged(name string) string {
	for _, d := range []string{"/bin/", "/sbin/", "/lib/", "/lib64/"} {
		if strings.HasPrefix(name, d) {
			return "/usr" + name
		}
	}
	return name
}

func addFile(c *cpio, from, to string) error {
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	c.file(to, int(info.Mode().Perm()), data)
	return nil
}

// addFiles adds a package's own files and its testdata, as a test finds them when go test runs it.
func addFiles(c *cpio, to, from string) error {
	if from == "" {
		return nil
	}
	return filepath.WalkDir(from, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, name)
		if err != nil {
			return err
		}
		if entry.IsDir() && rel != "." && rel != "testdata" && !strings.HasPrefix(rel, "testdata/") {
			return filepath.SkipDir
		}
		if entry.Type().IsRegular() {
			return addFile(c, name, path.Join(to, rel))
		}
		return nil
	})
}
