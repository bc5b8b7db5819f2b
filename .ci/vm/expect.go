package main

import (
	_ "embed"
	"fmt"
	"path"
	"slices"
	"strings"
)

//go:embed expect.txt
var expectTable string

// An expectation is a line of expect.txt.
type expectation struct {
	kernels   []string // empty: all
	job, test string
	outcome   string
	why       string
	line      int
}

// readExpectations parses expect.txt.
func readExpectations() ([]*expectation, error) { return parseExpectations(expectTable) }

func parseExpectations(table string) ([]*expectation, error) {
	var found []*expectation
	number := 0
	for line := range strings.Lines(table) {
		number++
		if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		words := strings.Fields(line)
		if len(words) < 4 || words[3] != "pass" && (words[3] != "skip" || len(words) < 5) {
			return nil, fmt.Errorf("expect.txt:%d: want kernels, job, test, outcome, and for a skip the reason", number)
		}
		e := &expectation{job: words[1], test: words[2], outcome: words[3], why: strings.Join(words[4:], " "), line: number}
		if _, err := path.Match(e.test, ""); err != nil {
			return nil, fmt.Errorf("expect.txt:%d: %w", number, err)
		}
		if words[0] != "*" {
			e.kernels = strings.Split(words[0], ",")
			if _, err := findKernels(e.kernels); err != nil {
				return nil, fmt.Errorf("expect.txt:%d: %w", number, err)
			}
		}
		found = append(found, e)
	}
	return found, nil
}

func (e *expectation) on(kernel string) bool {
	return e.kernels == nil || slices.Contains(e.kernels, kernel)
}

// ran says whether a job's tests are among those that the line is about.
func (e *expectation) ran(j job) bool {
	top, _, _ := strings.Cut(e.test, "/")
	return j.name == e.job && (len(j.only) == 0 || slices.Contains(j.only, top))
}

// matches says whether the line is about this test.
func (e *expectation) matches(r row) bool {
	ok, _ := path.Match(e.test, r.test)
	return ok && e.job == r.job
}

// expect gives the first line about a test on a kernel, nil if there is none: then it must pass.
func expect(all []*expectation, kernel string, r row) *expectation {
	for _, e := range all {
		if e.on(kernel) && e.matches(r) {
			return e
		}
	}
	return nil
}
