"""What benches/compare is made of."""
import pathlib, sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tests" / "harness"))
