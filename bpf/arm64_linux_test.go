package bpf

import (
	"errors"
	"os"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
)

// Programs that are not typed read the kernel through helpers only, so that this machine's verifier can judge them after
// their fields were looked up in the types of an arm64 kernel. MIDHOP_ARM64_BTF names a file with these; make
// test-arm64 fetches one. Typed programs need the other machine itself; they read the same fields as these.
func TestArm64(t *testing.T) {
	name := os.Getenv("MIDHOP_ARM64_BTF")
	if name == "" {
		t.Skip("MIDHOP_ARM64_BTF names no file: see make test-arm64")
	}
	needRoot(t)
	types, err := btf.LoadSpec(name)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range []object{objectRawTCP, objectReset, objectKprobe} {
		spec, err := o.load()
		if err != nil {
			t.Fatal(err)
		}
		for program, p := range spec.Programs {
			t.Run(o.name+"/"+program, func(t *testing.T) {
				one := spec.Copy()
				one.Programs = map[string]*ebpf.ProgramSpec{program: p.Copy()}
				coll, err := ebpf.NewCollectionWithOptions(one, ebpf.CollectionOptions{Programs: ebpf.ProgramOptions{KernelTypes: types}})
				var refused *ebpf.VerifierError
				if errors.As(err, &refused) {
					t.Fatalf("%+v", refused)
				}
				if err != nil {
					t.Fatal(err)
				}
				coll.Close()
			})
		}
	}
}
