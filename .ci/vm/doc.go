// Command vm boots Debian kernels under QEMU and runs test binaries of this repository in them, so that every rung of the kernel
// half is proven where it exists. It must not know what the tests test: it knows kernels, binaries, and a table of expected outcomes.
//
//	vm fetch [-mirror URL] KERNEL...            download and unpack kernels: see kernels.go
//	vm run -kernel K[,K...] -pkg ./bpf          build a package's tests and run them in a guest of each kernel
//	vm run -native -kernel K -pkg ./bpf         and here, as a column of its own
//	vm run -kernel K -bin 'bin/midhop doctor'   run any static binary there; its exit status must be 0
//
// README.md beside this file tells how it works and how to add a kernel.
package main
