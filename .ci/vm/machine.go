package main

import "regexp"

// A machine is a kind of processor that guests are emulated with.
type machine struct {
	debian, goarch string
	qemu           string   // the emulator; Debian's package of it is in tools
	args           []string // the emulated board, with two lines out of it: the kernel's console first, then the jobs' output
	append         string   // to the kernel: its console, and as line the device of the second, which init.sh reads
	triplet        string   // directory of its libraries
	native         bool     // programs and libraries are this machine's; else the archive's, of the suite below
	suite          string
	images         *regexp.Regexp // packages that hold or stand for one kernel
}

// Two cores and a thread for each are what makes emulation bearable; a board with PCI Express boots faster than the old one.
var amd64 = &machine{
	debian: "amd64", goarch: "amd64", qemu: "qemu-system-x86_64", triplet: "x86_64-linux-gnu", native: true,
	args:   []string{"-accel", "tcg,thread=multi", "-cpu", "max", "-M", "q35", "-serial", "file:CONSOLE", "-serial", "stdio"},
	append: "console=ttyS0 line=/dev/ttyS1 mitigations=off",
	images: regexp.MustCompile(`^linux-image-(\d+\.\d+.*-cloud-amd64)$`),
}

// Its board has one serial line; what a virtual console carries costs less than another on PCI. Pointer authentication by the
// architecture's own cipher would take most of the emulator's time.
var arm64 = &machine{
	debian: "arm64", goarch: "arm64", qemu: "qemu-system-aarch64", triplet: "aarch64-linux-gnu", suite: "trixie",
	args: []string{"-accel", "tcg,thread=multi", "-cpu", "max,pauth-impdef=on", "-M", "virt", "-serial", "file:CONSOLE",
		"-device", "virtio-serial-pci", "-chardev", "stdio,id=line,signal=off", "-device", "virtconsole,chardev=line"},
	append: "console=ttyAMA0 line=/dev/hvc0 mitigations=off",
	images: regexp.MustCompile(`^linux-image-(\d+\.\d+.*-cloud-arm64)$`),
}
