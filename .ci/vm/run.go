package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// A plan is what the command line of `vm run` asks for.
type plan struct {
	kernels  []kernel
	mirror   string
	pkgs     []string
	bins     []string
	run      string
	native   bool
	deadline time.Duration
	memory   int
	logs     string
}

var began = time.Now()

// say prints a line of progress.
func say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "vm %5.1fs %s\n", time.Since(began).Seconds(), fmt.Sprintf(format, args...))
}

// runAll boots one guest after the other, as each takes all cores, and prints the table of what came out.
func runAll(ctx context.Context, p plan) error {
	if len(p.pkgs)+len(p.bins) == 0 {
		return errUsage
	}
	expected, err := readExpectations()
	if err != nil {
		return err
	}
	if err := installTools(ctx); err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "midhop-vm-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	jobs := map[*machine][]job{} // the same for all, each with binaries of its own
	for _, k := range p.kernels {
		if jobs[k.on] == nil {
			if jobs[k.on], err = buildJobs(ctx, p, work, k.on); err != nil {
				return err
			}
		}
	}
	images, err := fetch(ctx, p.kernels, p.mirror)
	if err != nil {
		return err
	}
	logs := p.logs
	if logs == "" {
		logs = work
	} else if err := os.MkdirAll(logs, 0o755); err != nil {
		return err
	}
	all := newResults(jobs[p.kernels[0].on])
	if p.native {
		if err := all.addNative(ctx, p, work); err != nil {
			return err
		}
	}
	for _, k := range images {
		g, err := runGuest(ctx, k, p, work, logs, jobs[k.on])
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := all.add(ctx, k, jobs[k.on], g, err, expected); err != nil {
			return err
		}
	}
	if p.run == "" {
		all.checkStale(expected)
	}
	all.print(os.Stdout)
	if n := len(all.wrong); n > 0 {
		return fmt.Errorf("%d outcomes are not the expected ones", n)
	}
	return nil
}

func runGuest(ctx context.Context, k image, p plan, work, logs string, jobs []job) (*guest, error) {
	root := filepath.Join(work, "root.cpio")
	defer os.Remove(root)
	missing, err := writeRoot(ctx, root, k, jobs)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(root)
	if err != nil {
		return nil, err
	}
	say("%s: root of %d MiB", k.name, info.Size()>>20)
	ctx, cancel := context.WithTimeoutCause(ctx, p.deadline, fmt.Errorf("deadline of %s reached", p.deadline))
	defer cancel()
	g, err := boot(ctx, k, root, filepath.Join(logs, k.name+".console"), p.memory, jobs)
	if g == nil {
		return nil, err
	}
	if len(missing) > 0 {
		say("%s has no module %s", k.name, strings.Join(missing, " "))
	}
	for _, m := range g.unloadable {
		say("%s: module not loaded: %s", k.name, m)
	}
	if p.logs != "" {
		for i, j := range jobs {
			name := filepath.Join(logs, k.name+"."+strings.ReplaceAll(j.name, "/", "-")+".out")
			err = errors.Join(err, os.WriteFile(name, g.outputs[i], 0o644))
		}
	}
	return g, err
}

// buildJobs builds the packages' test binaries for a machine and resolves the other binaries: PATH is this machine's, PATH-arm64
// and the like another's.
func buildJobs(ctx context.Context, p plan, work string, on *machine) ([]job, error) {
	root, err := repository()
	if err != nil {
		return nil, err
	}
	var jobs []job
	os.Setenv("CGO_ENABLED", "0") // the guest has no C library of the build's
	os.Setenv("GOARCH", on.goarch)
	defer os.Unsetenv("GOARCH")
	for i, pkg := range p.pkgs {
		_, only, _ := strings.Cut(strings.TrimSpace(pkg), " ")
		pkg, pattern, err := chosen(pkg, p.run)
		if err != nil {
			return nil, err
		}
		if pattern == nothing {
			continue
		}
		say("building the tests of %s for %s", pkg, on.goarch)
		binary := filepath.Join(work, fmt.Sprint(i)+"-"+on.goarch+".test")
		if _, err := output(ctx, root, "go", "test", "-c", "-ldflags=-s -w", "-o", binary, "./"+pkg); err != nil {
			return nil, err
		}
		if _, err := os.Stat(binary); err != nil {
			return nil, fmt.Errorf("package %s has no tests", pkg)
		}
		// The test's own time limit comes first, because its report names the test that hangs.
		args := []string{"-test.v=test2json", "-test.timeout=" + (p.deadline * 3 / 4).String()}
		if pattern != "" {
			args = append(args, "-test.run="+pattern)
		}
		jobs = append(jobs, job{name: pkg, path: binary, args: args, tests: true, only: strings.Fields(only), files: filepath.Join(root, pkg)})
	}
	for _, bin := range p.bins {
		words := strings.Fields(bin)
		if len(words) == 0 {
			return nil, errUsage
		}
		binary := words[0]
		if !filepath.IsAbs(binary) {
			binary = filepath.Join(root, binary)
		}
		name := strings.Join(append([]string{filepath.Base(binary)}, words[1:]...), " ")
		if !on.native {
			binary += "-" + on.goarch
		}
		jobs = append(jobs, job{name: name, path: binary, args: words[1:]})
	}
	return jobs, nil
}

// nothing stands for a pattern that no test would match.
const nothing = "^$"

// chosen reads what -pkg says, a directory and the tests to take from it, none for all, and gives the pattern by which the
// tests' binary is told which; run is the pattern for all packages. Of tests that -pkg names, those count that run matches too.
func chosen(text, run string) (pkg, pattern string, err error) {
	words := strings.Fields(text)
	if len(words) == 0 {
		return "", "", errUsage
	}
	pkg, names := filepath.Clean(words[0]), words[1:]
	if len(names) == 0 {
		return pkg, run, nil
	}
	if run != "" {
		top, _, _ := strings.Cut(run, "/") // what follows picks subtests
		matches, err := regexp.Compile(top)
		if err != nil {
			return "", "", err
		}
		names = slices.DeleteFunc(slices.Clone(names), func(name string) bool { return !matches.MatchString(name) })
	}
	if len(names) == 0 {
		return pkg, nothing, nil
	}
	return pkg, "^(" + strings.Join(names, "|") + ")$", nil
}

// repository gives the directory of the main module, at or above the working directory.
func repository() (string, error) {
	dir, err := os.Getwd()
	for ; err == nil; dir = filepath.Dir(dir) {
		if mod, err := os.ReadFile(filepath.Join(dir, "go.mod")); err == nil && strings.HasPrefix(string(mod), "module github.com/midhop/midhop\n") {
			return dir, nil
		}
		if dir == "/" {
			return "", errors.New("run vm inside the repository")
		}
	}
	return "", err
}
