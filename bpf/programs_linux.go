package bpf

import "fmt"

// Trial is what this kernel says of one program of one rung.
type Trial struct {
	Fact    Fact
	Rung    string
	Program string
	Err     error // nil: it loads
}

// TryPrograms loads every program of every rung, one by one and with the verifier's text, attaches none, and leaves nothing. It takes a
// second or more. It fails as [Load] does.
func TryPrograms(o Options) ([]Trial, error) {
	o.VerifierText = true
	l, err := newLoader(o)
	if err != nil {
		return nil, err
	}
	defer l.probes.Close()
	if err := l.rings(); err != nil {
		return nil, refused(err)
	}
	var out []Trial
	for _, ladder := range ladders(l.options.NATNetns) {
		for _, r := range ladder.rungs {
			for _, h := range r.hooks {
				out = append(out, Trial{ladder.fact, r.name, h.program, l.try(r, h)})
			}
		}
	}
	return out, nil
}

// try loads one program and closes it.
func (l *loader) try(r rung, h hook) error {
	if r.fits != nil {
		if err := r.fits(l.kernel); err != nil {
			return lacking(err)
		}
	}
	progs, err := l.programs(r, h.program)
	if err != nil {
		return err
	}
	if err := progs[h.program].Close(); err != nil {
		return fmt.Errorf("close program %s: %w", h.program, err)
	}
	return nil
}
