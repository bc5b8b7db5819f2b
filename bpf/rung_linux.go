package bpf

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// sharedMaps are the maps that several objects use: one of each, made when the first of these is loaded.
var sharedMaps = []string{
	kprobeMapEvidence, kprobeMapBulk, kprobeMapRingCounts, kprobeMapHookRan, kprobeMapTroubledAt, tcpMapTroubled, tcpMapRepairs,
	marksMapAsked, marksMapFound,
}

// listedRung is the rung of FactRecovery for which typed programs list their marks by address, and do not tie them to sockets.
const listedRung = "marks"

// ErrNoKprobes says that this kernel does not let functions be probed in that way.
var ErrNoKprobes = errors.New("functions cannot be probed so in this kernel")

// errOtherHook says that a rung has two variants and this kernel has the other one.
var errOtherHook = errors.New("this kernel has the rung at another place")

// loader is the state of one Load.
type loader struct {
	options Options
	own     uint32 // inode number of this process's network namespace
	hz      uint32
	log     *slog.Logger
	probes  *Probes
	shared  map[string]*ebpf.Map
	types   *btf.Cache // the kernel's BTF, decoded once for all objects: it is most of what loading costs
	kernel  *btf.Spec
	specs   map[string]*ebpf.CollectionSpec // of the objects that were needed so far
	ready   map[string]*ebpf.Program        // loaded ahead, all at once
	listed  bool                            // marks are listed by address
	marking bool                            // a typed program, which can mark sockets, serves some fact
}

// rings makes the maps that all programs share, and their readers.
func (l *loader) rings() error {
	tcp, err := loadKprobe() // it has all maps but one
	if err != nil {
		return err
	}
	if l.options.EvidenceBytes != 0 {
		tcp.Maps[kprobeMapEvidence].MaxEntries = l.options.EvidenceBytes
	}
	for _, name := range []string{kprobeMapEvidence, kprobeMapBulk, kprobeMapRingCounts, kprobeMapHookRan} {
		if err := l.share(tcp, name); err != nil {
			return err
		}
	}
	if l.probes.evidence, err = newRing(kprobeMapEvidence, evidenceTick, l.shared[kprobeMapEvidence]); err != nil {
		return err
	}
	if l.probes.bulk, err = newRing(kprobeMapBulk, bulkTick, l.shared[kprobeMapBulk]); err != nil {
		return err
	}
	l.probes.counts, l.probes.ran = l.shared[kprobeMapRingCounts], l.shared[kprobeMapHookRan]
	return nil
}

// load climbs every ladder down from the top. Its error means that not even the maps could be made.
func (l *loader) load() (Report, error) {
	if err := l.rings(); err != nil {
		return nil, err
	}
	all := ladders(l.options.NATNetns)
	var recovery FactReport
	for _, ladder := range all { // first: how the others mark sockets depends on how marks can be walked
		if ladder.fact == FactRecovery {
			recovery = l.firstThatServes(ladder)
			l.listed = recovery.Rung == listedRung
		}
	}
	l.loadAhead(all)
	var report Report
	for _, ladder := range all {
		switch {
		case ladder.fact == FactNAT && l.options.NoNAT:
			continue
		case ladder.fact == FactRecovery:
			if !l.marking {
				l.probes.troubled, l.probes.marks = nil, nil
				recovery = FactReport{Fact: FactRecovery, Rung: RungCensus}
				for _, r := range ladder.rungs {
					if r.name != RungCensus {
						recovery.Tried = append(recovery.Tried, Attempt{r.name, &LackingError{errors.New("no hook here can mark a socket so that it is found again")}})
					}
				}
			}
			l.told(recovery)
			report = append(report, recovery)
		default:
			r := l.firstThatServes(ladder)
			l.told(r)
			report = append(report, r)
		}
	}
	for _, p := range l.ready { // of facts for which another rung was asked
		p.Close()
	}
	l.probes.repairs = l.shared[tcpMapRepairs]
	return report, nil
}

// loadAhead loads the best programs of the TCP facts in one go, which costs less than one by one. Where that fails, each
// is tried alone, to find the ones that work.
func (l *loader) loadAhead(all []ladder) {
	var wanted []string
	for _, ladder := range all {
		best := ladder.rungs[0]
		if forced := l.options.Rungs[ladder.fact]; best.object.name == objectTCP.name && (forced == "" || forced == best.name) {
			wanted = append(wanted, best.hooks[0].program)
		}
	}
	if len(wanted) < 2 {
		return
	}
	ready, err := l.programs(rung{object: objectTCP}, wanted...)
	if err != nil {
		return
	}
	l.ready = ready
}

// told hands on how a fact is served.
func (l *loader) told(r FactReport) {
	if l.options.Served != nil {
		l.options.Served(r)
	}
}

// firstThatServes tries the rungs of a ladder until one serves.
func (l *loader) firstThatServes(ladder ladder) FactReport {
	report := FactReport{Fact: ladder.fact}
	forced := l.options.Rungs[ladder.fact]
	for _, r := range ladder.rungs {
		if forced != "" && forced != r.name {
			report.Tried = append(report.Tried, Attempt{r.name, fmt.Errorf("%w: %s", ErrNotAsked, forced)})
			continue
		}
		err := l.serve(r)
		if errors.Is(err, errOtherHook) {
			continue
		}
		if err == nil {
			report.Rung, report.Precise = r.name, !r.coarse
			for _, h := range r.hooks {
				report.hooks = append(report.hooks, h.index)
			}
			return report
		}
		l.log.Debug("rung does not serve", "fact", ladder.fact, "rung", r.name, "error", err)
		// two variants of a rung may lack the same
		if !slices.ContainsFunc(report.Tried, func(a Attempt) bool { return a.Rung == r.name && a.Err.Error() == err.Error() }) {
			report.Tried = append(report.Tried, Attempt{r.name, err})
		}
	}
	if ladder.foot == RungCensus && (forced == "" || forced == RungCensus) {
		report.Rung = RungCensus // this package's too; ctnetlink is for others to open
	}
	return report
}

// serve loads and attaches all hooks of a rung, or none.
func (l *loader) serve(r rung) (err error) {
	if r.fits != nil {
		if err := r.fits(l.kernel); err != nil {
			return lacking(err)
		}
	}
	if r.trial != "" {
		progs, err := l.programs(r, r.trial)
		if err != nil {
			return err
		}
		progs[r.trial].Close()
	}
	names := make([]string, len(r.hooks))
	for i, h := range r.hooks {
		names[i] = h.program
	}
	progs := make(map[string]*ebpf.Program)
	if p := l.ready[names[0]]; r.object.name == objectTCP.name && p != nil {
		progs[names[0]] = p
		delete(l.ready, names[0])
	} else if progs, err = l.programs(r, names...); err != nil {
		return err
	}
	var links []link.Link
	for _, h := range r.hooks {
		lk, err := l.attach(r.object, h, progs[h.program])
		if err != nil && !h.lacking {
			for _, lk := range links {
				lk.Close()
			}
			for _, p := range progs {
				p.Close()
			}
			return fmt.Errorf("attach: %w", err)
		}
		if err == nil && lk != nil {
			links = append(links, lk)
		}
	}
	l.marking = l.marking || r.object.typed()
	for _, p := range progs {
		l.probes.progs = append(l.probes.progs, p)
	}
	l.probes.links = append(l.probes.links, links...)
	return nil
}

// lacking marks what a rung's condition says as this package's own words.
func lacking(err error) error {
	if errors.Is(err, errOtherHook) {
		return err
	}
	return &LackingError{err}
}

// attach puts a program into its place.
func (l *loader) attach(o object, h hook, p *ebpf.Program) (link.Link, error) {
	switch {
	case h.multi:
		return link.KprobeMulti(p, link.KprobeMultiOptions{Symbols: []string{h.kprobe}})
	case h.kprobe != "":
		lk, err := link.Kprobe(h.kprobe, p, nil)
		if errors.Is(err, unix.EACCES) {
			return nil, fmt.Errorf("perf_event_open takes CAP_SYS_ADMIN here (sysctl kernel.perf_event_paranoid above 2): %w", unix.EACCES)
		}
		return lk, err
	case h.rawTP != "":
		return link.AttachRawTracepoint(link.RawTracepointOptions{Name: h.rawTP, Program: p})
	case o.name == objectCensus.name:
		it, err := link.AttachIter(link.IterOptions{Program: p})
		if err == nil {
			l.probes.census = it
		}
		return it, err
	}
	if o.name == objectMarks.name { // run by whoever reads
		l.probes.marks = &marks{program: p, at: l.shared[kprobeMapTroubledAt], asked: l.shared[marksMapAsked], found: l.shared[marksMapFound]}
		return nil, nil
	}
	if o.name == objectMarked.name {
		it, err := link.AttachIter(link.IterOptions{Program: p, Map: l.shared[tcpMapTroubled]})
		if err == nil {
			l.probes.troubled = it
		}
		return it, err
	}
	return link.AttachTracing(link.TracingOptions{Program: p}) // tp_btf, fentry and fexit: as the program says
}

// programs loads the named programs of a rung's object with the shared maps in place of the object's own.
func (l *loader) programs(r rung, names ...string) (map[string]*ebpf.Program, error) {
	spec, ok := l.specs[r.object.name]
	if !ok {
		var err error
		if spec, err = r.object.load(); err != nil {
			return nil, err
		}
		l.specs[r.object.name] = spec
	}
	spec = spec.Copy()
	if err := l.set(spec, kprobeVarHz, l.hz); err != nil {
		return nil, err
	}
	if err := l.set(spec, censusVarOwnNetns, l.own); err != nil {
		return nil, err
	}
	if err := l.set(spec, kprobeVarListMarks, l.listed); err != nil {
		return nil, err
	}
	if r.adjust != nil {
		if err := r.adjust(spec); err != nil {
			return nil, err
		}
	}
	wanted := make(map[string]*ebpf.ProgramSpec, len(names))
	for _, name := range names {
		wanted[name] = spec.Programs[name]
	}
	spec.Programs = wanted
	replace := make(map[string]*ebpf.Map)
	for _, name := range sharedMaps {
		own, ok := spec.Maps[name]
		if !ok {
			continue
		}
		if name == kprobeMapTroubledAt && r.object.typed() && !l.listed {
			own.MaxEntries = 1 // its marks are tied to their sockets
			continue
		}
		if l.shared[name] == nil {
			if err := l.share(spec, name); err != nil {
				return nil, err
			}
		}
		own.MaxEntries = l.shared[name].MaxEntries() // a replacement has to agree with what it replaces
		replace[name] = l.shared[name]
	}
	// To write down what it thought costs the verifier several times what thinking does.
	opts := ebpf.CollectionOptions{MapReplacements: replace, Cache: l.types, Programs: ebpf.ProgramOptions{LogDisabled: !l.options.VerifierText}}
	coll, err := ebpf.NewCollectionWithOptions(spec, opts)
	if err != nil {
		return nil, explain(r.object, names[0], err)
	}
	defer coll.Close()
	progs := make(map[string]*ebpf.Program, len(names))
	for _, name := range names {
		progs[name] = coll.DetachProgram(name)
	}
	return progs, nil
}

// explain puts a refusal to load into better words.
func explain(o object, program string, err error) error {
	if errors.Is(err, unix.EPERM) {
		// the library's text suspects RLIMIT_MEMLOCK, which the maps would have met first
		return fmt.Errorf("the kernel does not permit it: %w", unix.EPERM)
	}
	var verifier *ebpf.VerifierError
	if errors.As(err, &verifier) && verifierErrnos(verifier.Cause) {
		return &RejectedError{Program: program, Line: tellingLine(verifier.Log), Log: verifier.Log, Err: verifier.Cause}
	}
	if has, cerr := capabilities(); o.name == objectNAT.name && cerr == nil && !has(unix.CAP_SYS_ADMIN) && errors.Is(err, ebpf.ErrNotSupported) {
		// BPF_BTF_GET_FD_BY_ID is refused, so the library finds the function nowhere
		return fmt.Errorf("looking up the types of a module (nf_conntrack) takes CAP_SYS_ADMIN: %w", err)
	}
	return err
}

// verifierErrnos says whether an error is one by which the verifier rejects a program.
func verifierErrnos(err error) bool {
	for _, errno := range []unix.Errno{unix.EACCES, unix.EINVAL, unix.E2BIG, unix.EFAULT, unix.EBUSY, unix.ENOSPC} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

// tellingLine returns the line of a verifier's text that says why it rejects: the last one that is no statistics, with the instruction
// before it where it speaks of a register.
func tellingLine(log []string) string {
	log = slices.DeleteFunc(slices.Clone(log), func(line string) bool {
		return line == "" || strings.HasPrefix(line, "processed ") || strings.HasPrefix(line, "stack depth ") || strings.HasPrefix(line, "verification time ")
	})
	n := len(log)
	if n == 0 {
		return ""
	}
	line := strings.TrimSpace(log[n-1])
	if n > 1 && len(line) > 1 && line[0] == 'R' && line[1] >= '0' && line[1] <= '9' {
		line = strings.TrimSpace(log[n-2]) + ": " + line
	}
	return line
}

// set gives a constant of the programs its value, if they have it.
func (l *loader) set(spec *ebpf.CollectionSpec, name string, value any) error {
	v, ok := spec.Variables[name]
	if !ok {
		return nil
	}
	if err := v.Set(value); err != nil {
		return fmt.Errorf("set %s: %w", name, err)
	}
	return nil
}

// share makes a map that further objects will use too.
func (l *loader) share(spec *ebpf.CollectionSpec, name string) error {
	m, err := ebpf.NewMap(spec.Maps[name])
	if err != nil {
		return fmt.Errorf("make map %s: %w", name, err)
	}
	l.shared[name] = m
	l.probes.maps = append(l.probes.maps, m)
	return nil
}
