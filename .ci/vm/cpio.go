package main

import (
	"fmt"
	"io"
	"path"
	"strings"
)

// File types of a cpio entry's mode, as in stat(2).
const (
	modeDir  = 0o040000
	modeChar = 0o020000
	modeFile = 0o100000
	modeLink = 0o120000
)

// A cpio writes the archive that the kernel unpacks into its first root: format "newc" of the kernel's
// Documentation/driver-api/early-userspace/buffer-format.rst. Parents are made as needed; all belongs to root.
type cpio struct {
	w    io.Writer
	err  error // the first one; later calls do nothing
	ino  int
	seen map[string]bool
}

func newCpio(w io.Writer) *cpio { return &cpio{w: w, seen: map[string]bool{"/": true, ".": true}} }

func (c *cpio) file(name string, perm int, data []byte) { c.entry(name, modeFile|perm, data, 0, 0) }
func (c *cpio) link(name, target string)                { c.entry(name, modeLink|0o777, []byte(target), 0, 0) }
func (c *cpio) dir(name string)                         { c.entry(name, modeDir|0o755, nil, 0, 0) }
func (c *cpio) char(name string, major, minor int)      { c.entry(name, modeChar|0o600, nil, major, minor) }

// entry writes one file, its parents before it. A name that is there already is left as it is.
func (c *cpio) entry(name string, mode int, data []byte, major, minor int) {
	name = path.Clean(name)
	if c.seen[name] {
		return
	}
	c.seen[name] = true
	if parent := path.Dir(name); !c.seen[parent] {
		c.dir(parent)
	}
	c.ino++
	c.record(strings.TrimPrefix(name, "/"), c.ino, mode, data, major, minor)
}

func (c *cpio) record(name string, ino, mode int, data []byte, major, minor int) {
	const uid, gid, links, mtime, devMajor, devMinor, check = 0, 0, 1, 0, 0, 0, 0
	header := "070701"
	for _, v := range []int{ino, mode, uid, gid, links, mtime, len(data), devMajor, devMinor, major, minor, len(name) + 1, check} {
		header += fmt.Sprintf("%08X", v)
	}
	c.write([]byte(header + name + "\x00"))
	c.pad(len(header) + len(name) + 1)
	c.write(data)
	c.pad(len(data))
}

// close writes the trailer and gives the first error.
func (c *cpio) close() error {
	c.record("TRAILER!!!", 0, 0, nil, 0, 0)
	return c.err
}

func (c *cpio) pad(n int) { c.write(make([]byte, -n&3)) }

func (c *cpio) write(b []byte) {
	if c.err == nil {
		_, c.err = c.w.Write(b)
	}
}
