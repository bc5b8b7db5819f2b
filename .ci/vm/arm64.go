package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
)

// binaries matches the packages that hold an arm64 kernel's uncompressed image: since 7.2 it is in one of its own.
var binaries = regexp.MustCompile(`^linux-binary-(\d+\.\d+\.\d+.*-cloud-arm64)$`)

// fetchARM64 writes the types (BTF) of the newest arm64 kernel to a file. No arm64 machine is emulated: a verifier of this
// machine judges the programs with the other's types.
func fetchARM64(ctx context.Context, mirror, to string) error {
	work, err := os.MkdirTemp("", "midhop-arm64-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	from, err := findArchives(mirror)
	if err != nil {
		return err
	}
	index := apt{filepath.Join(work, "index"), "arm64"}
	newest := matrix[slices.IndexFunc(matrix, func(k kernel) bool { return k.series == "" })]
	if err := index.refresh(ctx, from, newest.suites); err != nil {
		return err
	}
	p, err := newestOf(ctx, index, binaries, "")
	if err != nil {
		return err
	}
	say("arm64: downloading %s %s", p.name, p.version)
	if _, err := index.output(ctx, work, "apt-get", "-q", "download", p.name+"="+p.version); err != nil {
		return err
	}
	debs, _ := filepath.Glob(filepath.Join(work, "*.deb"))
	for _, deb := range debs {
		if _, err := output(ctx, work, "dpkg-deb", "-x", deb, filepath.Join(work, "root")); err != nil {
			return err
		}
	}
	images, _ := filepath.Glob(filepath.Join(work, "root", "usr", "lib", "modules", "*", "vmlinuz"))
	if len(images) != 1 {
		return fmt.Errorf("%s holds the images %v, want one", p.name, images)
	}
	image, err := os.ReadFile(images[0])
	if err != nil {
		return err
	}
	types, err := findBTF(image)
	if err != nil {
		return fmt.Errorf("%s: %w", p.name, err)
	}
	return os.WriteFile(to, types, 0o644)
}

// findBTF cuts the types out of a kernel's image: the only section of its kind that is larger than a megabyte (struct
// btf_header, include/uapi/linux/btf.h; little-endian, version 1, a header of 24 bytes).
func findBTF(image []byte) ([]byte, error) {
	magic := []byte{0x9f, 0xeb, 1, 0, 24, 0, 0, 0}
	for at := 0; ; at++ {
		i := bytes.Index(image[at:], magic)
		if i < 0 {
			return nil, errors.New("the image holds no types, or is compressed")
		}
		at += i
		if len(image)-at < 24 {
			continue
		}
		word := func(n int) uint64 { return uint64(binary.LittleEndian.Uint32(image[at+4*n:])) }
		end := 24 + word(4) + word(5) // where the strings begin, and their length
		if word(3) > 1<<20 && end <= uint64(len(image)-at) {
			return image[at : uint64(at)+end], nil
		}
	}
}
