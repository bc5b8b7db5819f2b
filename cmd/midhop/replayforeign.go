package main

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/midhop/midhop/tracer/source/stream"
)

// foreignText is a kind of file that people take for a recording: how it begins, what it is, and what gives the right thing.
type foreignText struct {
	begins *regexp.Regexp
	is     string
	remedy string
}

const recordOne = "midhop record FILE makes a recording, and midhop replay FILE shows it"

// foreignTexts is in the order in which they are tried.
var foreignTexts = []foreignText{
	{regexp.MustCompile(`^(?:\xd4\xc3\xb2\xa1|\xa1\xb2\xc3\xd4|\x4d\x3c\xb2\xa1|\xa1\xb2\x3c\x4d|\x0a\x0d\x0d\x0a)`), "is a capture of packets (pcap)", recordOne},
	{regexp.MustCompile(`^\xfd7zXZ`), "is compressed by xz, which is not read here", "xz -dc FILE | midhop replay -"},
	{regexp.MustCompile(`^(?:\xff\xfe|\xfe\xff|\x00.|.\x00)`), "is UTF-16, as PowerShell's > writes it", "iconv -f UTF-16 -t UTF-8 FILE | midhop replay -"},
	{regexp.MustCompile(`^(?:Netid |State +Recv-Q|Recv-Q +Send-Q|(?:tcp +)?(?:ESTAB|LISTEN|TIME-WAIT|SYN-SENT|CLOSE-WAIT|FIN-WAIT-[12]) +[0-9])`), "is what ss prints", recordOne},
	{regexp.MustCompile(`^(?:Active Internet connections|Proto +Recv-Q)`), "is what netstat prints", recordOne},
	{regexp.MustCompile(`^(?:\[[0-9.]+\]\s*)?(?:\s*\[(?:NEW|UPDATE|DESTROY)\]\s*)?(?:ipv[46] +[0-9]+ +)?(?:tcp|udp|icmp|icmpv6|sctp) +[0-9]+ .*\bsrc=`), "is a list of conntrack's", recordOne},
	{regexp.MustCompile(`^\{.*"(?:flow"\s*:\s*\{.*"(?:node_name|verdict|traffic_direction)|traffic_direction|is_reply)"`), "holds flows of Hubble's", recordOne},
	{regexp.MustCompile(`^\{.*"(?:mntns_id|mountnsid|gadget|timestamp_raw|netns_id)"`), "holds events of Inspektor Gadget's", recordOne},
	{regexp.MustCompile(`^\{.*"rows"\s*:\s*\[.*"via"`), "is a look that midhop via --save wrote", "midhop via --compare FILE"},
	{regexp.MustCompile(`^\[\s*\{\s*"v"\s*:`), "holds a recording's lines in one list", "jq -c '.[]' FILE | midhop replay -"},
	{regexp.MustCompile(`^\{\s*\n\s*"v"\s*:`), "holds a recording's lines, each over several", "jq -c . FILE | midhop replay -"},
	{regexp.MustCompile(`(?s)^(?:#[^\n]*\n|\s)*(?:---\s*)?(?:- *\{? *(?:name|addresses|podCIDRs|labels|apiVersion|kind):|- *\{? *"name"|apiVersion:|kind:|items:)`), "is a nodes file, not a recording", "midhop replay RECORDING --nodes FILE"},
	{regexp.MustCompile(`(?s)^\[?\s*\{.{0,300}"(?:apiVersion|kind|podCIDRs?)"\s*:`), "is a nodes file, or other objects of Kubernetes', not a recording", "midhop replay RECORDING --nodes FILE"},
	{regexp.MustCompile(`^NAME +STATUS`), "is the table of nodes that kubectl prints", recordOne},
	{regexp.MustCompile(`^(?:<!DOCTYPE|<!doctype|<html)`), "is a web page", recordOne},
	{regexp.MustCompile(`^\{`), "is JSON, but has no line of midhop's", recordOne},
	{regexp.MustCompile(`^\[`), "is JSON, but has no line of midhop's", recordOne},
}

// recordingError says why a file is no recording. It is found out before anything is shown.
func recordingError(name string, head []byte, first *stream.LineError) error {
	const effect = "nothing was shown"
	text := bytes.TrimLeft(head, " \t\r\n")
	if len(text) == 0 {
		return remedied(name, "holds no events", effect, recordOne)
	}
	if first != nil && !ours(head) {
		for _, f := range foreignTexts {
			if f.begins.Match(head) || f.begins.Match(text) {
				return remedied(name, f.is, effect, f.remedy)
			}
		}
		if bytes.IndexByte(head, 0) >= 0 {
			return remedied(name, "is no text, and no recording", effect, recordOne)
		}
		return remedied(name, "is no recording: "+first.Error(), effect, recordOne)
	}
	if first == nil {
		return remedied(name, "holds no events", effect, recordOne)
	}
	remedy := recordOne
	if strings.Contains(first.Error(), "unknown version") {
		remedy = "the midhop that wrote it, or a newer one"
	}
	return remedied(name, "no line can be used: "+first.Error(), effect, remedy)
}

var oursBegin = regexp.MustCompile(`^\s*\{\s*"v"\s*:[^\n]*"type"\s*:`)

// ours says whether text begins like a line of the stream.
func ours(head []byte) bool { return oursBegin.Match(head) }

func remedied(name, is, effect, remedy string) error {
	return remediedError{errors.New(fmt.Sprint(name, ": ", is)), effect, remedy}
}
