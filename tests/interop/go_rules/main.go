// Command go_rules checks Prometheus rule files, named as arguments, and PromQL expressions, one a line on standard input,
// with Prometheus's own parsers: what `promtool check rules` does, without all that promtool is linked with.
package main

import (
	"bufio"
	"fmt"
	"log/slog"
	"os"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
)

func main() {
	faults := 0
	p := parser.NewParser(parser.Options{})
	for _, path := range os.Args[1:] {
		_, errs := rulefmt.ParseFile(path, false, model.UTF8Validation, p, slog.New(slog.DiscardHandler))
		for _, err := range errs {
			faults++
			fmt.Fprintln(os.Stderr, err)
		}
	}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		if _, err := p.ParseExpr(lines.Text()); err != nil {
			faults++
			fmt.Fprintf(os.Stderr, "%s: %v\n", lines.Text(), err)
		}
	}
	if faults > 0 {
		os.Exit(1)
	}
}
