package main

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// wantedModules is what the tests' topologies, rules and probes need. A module that a kernel does not have is reported, once, and
// left out: whether a test can do without is the test's business.
var wantedModules = strings.Fields(`
	veth bridge br_netfilter vxlan dummy sch_netem sch_tbf sch_fq tcp_bbr tcp_cubic inet_diag tcp_diag
	nf_conntrack nf_conntrack_netlink nf_nat nf_tables nfnetlink nfnetlink_log nf_log_syslog
	nft_chain_nat nft_nat nft_masq nft_redir nft_ct nft_counter nft_numgen nft_hash nft_limit nft_log nft_fib nft_fib_inet
	nft_fib_ipv4 nft_fib_ipv6 nft_reject nft_reject_inet nft_reject_ipv4 nft_reject_ipv6 nft_compat nft_objref
	ip_tables ip6_tables iptable_nat iptable_filter iptable_raw iptable_mangle ip6table_nat ip6table_filter
	xt_conntrack xt_nat xt_MASQUERADE xt_REDIRECT xt_comment xt_mark xt_addrtype xt_statistic xt_tcpudp xt_multiport xt_recent
	xt_set xt_CT ip_set ip_set_hash_ip ip_set_hash_ipport ip_set_hash_ipportip ip_set_hash_ipportnet ip_set_bitmap_port
	ip_vs ip_vs_rr xt_ipvs
`)

// A module is one object of a kernel, ready for insmod.
type module struct {
	name string
	data []byte
}

// A resolver finds modules with all that they depend on.
type resolver struct {
	paths   map[string]string // module name to file
	builtin map[string]bool
	done    map[string]bool
	order   []module
	missing []string
}

// loadOrder gives the wanted modules of the kernel in an order in which insmod takes them, and the names that the kernel lacks.
func loadOrder(ctx context.Context, dir string, wanted []string) ([]module, []string, error) {
	r := resolver{paths: map[string]string{}, builtin: map[string]bool{}, done: map[string]bool{}}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() && strings.Contains(entry.Name(), ".ko") {
			r.paths[moduleName(path)] = path
		}
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	list, err := os.ReadFile(filepath.Join(dir, "modules.builtin"))
	if err != nil {
		return nil, nil, err
	}
	for line := range strings.Lines(string(list)) {
		r.builtin[moduleName(strings.TrimSpace(line))] = true
	}
	for _, name := range wanted {
		if err := r.add(ctx, name); err != nil {
			return nil, nil, err
		}
	}
	return r.order, r.missing, nil
}

// moduleName is a file's module: the kernel writes an underscore where files may have a dash.
func moduleName(path string) string {
	name, _, _ := strings.Cut(filepath.Base(path), ".ko")
	return strings.ReplaceAll(name, "-", "_")
}

func (r *resolver) add(ctx context.Context, name string) error {
	if r.done[name] || r.builtin[name] {
		return nil
	}
	r.done[name] = true
	path, ok := r.paths[name]
	if !ok {
		r.missing = append(r.missing, name)
		return nil
	}
	data, err := unpack(ctx, path)
	if err != nil {
		return err
	}
	needs, err := dependencies(data)
	if err != nil {
		return fmt.Errorf("module %s: %w", path, err)
	}
	for _, need := range needs {
		if r.paths[need] == "" && !r.builtin[need] {
			continue // a soft dependency may be an alias of something built in; a hard one makes insmod say what it lacks
		}
		if err := r.add(ctx, need); err != nil {
			return err
		}
	}
	r.order = append(r.order, module{name, data})
	return nil
}

// unpack reads a module, which may be compressed.
func unpack(ctx context.Context, path string) ([]byte, error) {
	switch filepath.Ext(path) {
	case ".xz":
		return output(ctx, "", "xz", "-dc", path)
	case ".zst":
		return output(ctx, "", "zstd", "-dcq", path)
	}
	return os.ReadFile(path)
}

// dependencies reads the modules that must be there before, from the section .modinfo: NUL-separated key=value pairs, of which
// "depends" lists symbols' homes and "softdep" with "pre:" what the module asks for at run time.
func dependencies(data []byte) ([]string, error) {
	file, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	section := file.Section(".modinfo")
	if section == nil {
		return nil, errors.New("no section .modinfo")
	}
	info, err := section.Data()
	if err != nil {
		return nil, err
	}
	var needs []string
	for pair := range strings.SplitSeq(string(info), "\x00") {
		if list, ok := strings.CutPrefix(pair, "depends="); ok {
			needs = append(needs, strings.FieldsFunc(list, func(r rune) bool { return r == ',' })...)
		}
		if list, ok := strings.CutPrefix(pair, "softdep=pre:"); ok {
			before, _, _ := strings.Cut(list, "post:")
			needs = append(needs, strings.Fields(before)...)
		}
	}
	for i, n := range needs {
		needs[i] = strings.ReplaceAll(n, "-", "_")
	}
	return slices.Compact(needs), nil
}
